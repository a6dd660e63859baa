// Package store persists the state of each service's breaker and the history of its changes. There are three implementations of one
// interface: a bbolt file, a Redis server that instances share, and memory when neither is configured. It also stores copies of queued
// requests in Redis.
package store

import (
	"context"
	"time"

	"cbproxy/internal/events"
)

// HistoryLimit is the number of changes that a store keeps of each service at least.
const HistoryLimit = 200

// Store stores states and histories. It is safe for concurrent use. Its errors name the operation and the service and contain no
// secrets.
type Store interface {
	// Load returns the state of a service; found is false if none is stored.
	Load(ctx context.Context, service string) (s State, found bool, err error)
	// Save stores s unless the stored state has a higher epoch.
	Save(ctx context.Context, s State) error
	// Append adds a change to the history of its service.
	Append(ctx context.Context, c events.HistoryEntry) error
	// History returns up to limit changes of a service, newest first.
	History(ctx context.Context, service string, limit int) ([]events.HistoryEntry, error)
	// Close releases the store's resources. No method may be called afterwards.
	Close() error
}

// State is the stored state of one breaker. Its times are by the host's clock in a file, and by the server's clock in Redis.
type State struct {
	Service string       `json:"service_name"`
	State   events.State `json:"state"`
	// Timestamp is when the breaker of Instance entered the state. In a fleet, a half-open state has the Timestamp of the open state
	// before it, because no result of a probe is known yet.
	Timestamp time.Time `json:"timestamp"`
	// Failures is the number of consecutive failures.
	Failures int `json:"fail_counter"`
	// Instance is the name of the instance that decided the state.
	Instance string `json:"instance"`
	// OpenedAt is the Timestamp of an open or a forced state. It is zero in other states, except that a half-open state in a fleet keeps
	// that of the open state before it.
	OpenedAt time.Time `json:"opened_at,omitzero"`
	// Until is when the open or the forced state ends; zero if it has no end.
	Until time.Time `json:"until,omitzero"`
	// Epoch increases with each decision of a fleet. 0 is before the first.
	Epoch uint64 `json:"epoch"`
	// ConsecutiveOpens is how often the breaker has opened in a row without a lasting recovery in between.
	ConsecutiveOpens int `json:"openings"`
	// Forced is whether an operator forced the state, and Shared whether the force applies to the whole fleet, which is always so in
	// Redis.
	Forced bool         `json:"forced,omitempty"`
	Shared bool         `json:"shared,omitempty"`
	Cause  events.Cause `json:"cause,omitempty"`
	Reason string       `json:"reason,omitempty"`
	// Prober is the token of the instance that may probe; "" if none may.
	Prober string `json:"prober,omitempty"`
}

// Remaining returns how long an open or a forced state still lasts, and its age. now must be from the clock that wrote s: the host's for
// a file, Redis's for Redis. If that clock was set back, remaining is limited to the total duration. endless is whether the state has no
// end.
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
