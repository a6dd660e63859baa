package events

import "time"

// QueueStatus is the status of one service's queue.
type QueueStatus struct {
	// Waiting and Dead are the numbers of requests.
	Waiting int `json:"waiting"`
	Dead    int `json:"dead"`
	// Oldest is when the oldest waiting request was accepted; nil if none waits.
	Oldest *time.Time `json:"oldest"`
	// NextAttempt is the earliest time of the next delivery; nil if that is now.
	NextAttempt *time.Time `json:"next_attempt"`
	// LastError is why the last delivery failed; "" if it succeeded.
	LastError string `json:"last_error"`
	// The fields below count since the process started. Retried counts failed deliveries, Lost dead letters that were removed because
	// there were too many, TakenOver requests that were taken over from failed instances, and Released requests that other instances
	// have taken over from this one.
	Accepted  uint64 `json:"accepted"`
	Delivered uint64 `json:"delivered"`
	Retried   uint64 `json:"retried"`
	Died      uint64 `json:"died"`
	Lost      uint64 `json:"lost"`
	TakenOver uint64 `json:"taken_over"`
	Released  uint64 `json:"surrendered"`
}

// QueuedRequest is the visible part of a queued request, without its header fields, query and body.
type QueuedRequest struct {
	ID      string `json:"id"`
	Service string `json:"service"`
	// State is waiting or dead.
	State  string `json:"state"`
	Method string `json:"method"`
	Path   string `json:"path"`
	// Bytes is the size of the body.
	Bytes    int       `json:"bytes"`
	Accepted time.Time `json:"accepted"`
	Attempts int       `json:"attempts"`
	// Aside is whether the request is set aside: it fails while others are delivered, and does not block them.
	Aside bool `json:"aside,omitempty"`
	// NotBefore is the earliest time of the next attempt; zero is at once.
	NotBefore time.Time `json:"not_before,omitzero"`
	LastError string    `json:"last_error,omitempty"`
	// Cause is why a dead request is dead, and Died when it became so.
	Cause string    `json:"cause,omitempty"`
	Died  time.Time `json:"died,omitzero"`
}
