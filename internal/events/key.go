package events

import "time"

// KeyStateChanged is published when the breaker of one key of a service has changed its state: see breaker.by. It does not say of which
// key: values of header fields are not for logs.
type KeyStateChanged struct {
	Time    time.Time `json:"time"`
	Service string    `json:"service"`
	From    State     `json:"from"`
	To      State     `json:"to"`
	Cause   Cause     `json:"cause"`
	// Omitted is the number of changes that were not published since the last one that was, because there were too many.
	Omitted int `json:"omitted,omitempty"`
}

func (KeyStateChanged) event() {}

// KeyStatus is the status of the breaker of one key of a service.
type KeyStatus struct {
	Key string
	// LastUsed is the time of the last request with the key; zero if there was none.
	LastUsed time.Time
	BreakerStatus
}

// KeyCounts are numbers of the breakers of a service's keys.
type KeyCounts struct {
	// Keys has the number of keys by state.
	Keys [len(States)]int
	// Transitions has the number of changes by the state they led to, and Evictions that of keys that have gone because there were too
	// many.
	Transitions [len(States)]uint64
	Evictions   uint64
}

// Total returns the number of keys.
func (c KeyCounts) Total() (n int) {
	for _, keys := range c.Keys {
		n += keys
	}
	return n
}
