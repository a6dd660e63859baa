// Package store keeps what outlives a process: the state of each service's breaker, and the
// history of its changes. There are three stores behind one interface: a file (bbolt), a Redis
// that instances share, and memory for who wants neither.
package store

import (
	"context"
	"time"

	"cbproxy/internal/events"
)

// HistoryLimit is how many changes a store keeps of each service at least; older ones may go.
const HistoryLimit = 200

// Store keeps states and histories. It is safe for concurrent use. Its errors say what was
// being done to which service, and hold no secret.
type Store interface {
	// Load returns what is kept of a service; found is false if nothing is.
	Load(ctx context.Context, service string) (s State, found bool, err error)
	// Save keeps s, unless what is kept has a higher epoch.
	Save(ctx context.Context, s State) error
	// Append adds a change to the history of its service.
	Append(ctx context.Context, c events.HistoryEntry) error
	// History returns up to limit changes of a service, newest first.
	History(ctx context.Context, service string, limit int) ([]events.HistoryEntry, error)
	// Close lets go of the store. Nothing may be asked of it any more.
	Close() error
}

// State is what is kept of one breaker. Its times are by one clock: the host's in a file, the
// Redis server's in Redis.
type State struct {
	Service string       `json:"service_name"`
	State   events.State `json:"state"`
	// Timestamp is when the state began or, in a fleet, when what it was decided for was found.
	Timestamp time.Time `json:"timestamp"`
	// Failures is the number of calls that failed in a row.
	Failures int `json:"fail_counter"`
	// Instance is the name of the instance whose state or decision it is.
	Instance string `json:"instance"`
	// OpenedAt is when an opening or an operator's hold began; zero if it is neither.
	OpenedAt time.Time `json:"opened_at,omitzero"`
	// Until is when it ends; zero if time does not end it.
	Until time.Time `json:"until,omitzero"`
	// Epoch numbers the decisions of a fleet: a later one is higher. 0 is before the first.
	Epoch uint64 `json:"epoch"`
	// Openings counts the openings in a row, with no lasting recovery between them.
	Openings int `json:"openings"`
	// Forced tells that it is an operator's hold, and Shared that it holds a whole fleet, which
	// all that is forced in Redis does.
	Forced bool         `json:"forced,omitempty"`
	Shared bool         `json:"shared,omitempty"`
	Cause  events.Cause `json:"cause,omitempty"`
	Reason string       `json:"reason,omitempty"`
	// Prober is the token of the instance that may probe; "" if none has claimed that.
	Prober string `json:"prober,omitempty"`
}

// Remaining returns how long an opening or a hold lasts from now on, where now is by the
// clock of s, and how long ago it began. A clock that was set back makes it no longer than
// it was when it began. endless tells that time does not end it.
func (s *State) Remaining(now time.Time) (remaining, age time.Duration, endless bool) {
	if s.Until.IsZero() {
		return 0, max(now.Sub(s.OpenedAt), 0), true
	}
	whole := max(s.Until.Sub(s.OpenedAt), 0)
	remaining = min(max(s.Until.Sub(now), 0), whole)
	if remaining > 0 {
		return remaining, whole - remaining, false
	}
	return 0, max(now.Sub(s.OpenedAt), whole), false
}
