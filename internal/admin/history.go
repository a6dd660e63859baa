package admin

import (
	"context"
	"slices"
	"sync"
	"time"

	"cbproxy/internal/events"
)

// historyLimit is how many changes are kept of each service.
const historyLimit = 200

// Change is one line of a service's history.
type Change struct {
	Time     time.Time       `json:"time"`
	From     events.State    `json:"from"`
	To       events.State    `json:"to"`
	Cause    events.Cause    `json:"cause"`
	Instance string          `json:"instance"`
	Counts   events.Counts   `json:"counts"`
	Reason   string          `json:"reason,omitempty"`
	Failure  *events.Failure `json:"failure,omitempty"`
}

// History keeps the last changes of each service's state in memory. Safe for concurrent
// use.
type History struct {
	instance string

	mu      sync.Mutex          // guards changes
	changes map[string][]Change // by service, oldest first
}

// NewHistory returns an empty history of the named instance.
func NewHistory(instance string) *History {
	return &History{instance: instance, changes: map[string][]Change{}}
}

// Run keeps what sub brings until ctx is done.
func (h *History) Run(ctx context.Context, sub *events.Subscription) {
	for {
		e, _, err := sub.Next(ctx)
		if err != nil {
			return
		}
		if c, ok := e.(events.StateChanged); ok {
			h.add(c)
		}
	}
}

func (h *History) add(c events.StateChanged) {
	h.mu.Lock()
	defer h.mu.Unlock()
	changes := append(h.changes[c.Service], Change{
		Time: c.Time.UTC(), From: c.From, To: c.To, Cause: c.Cause,
		Instance: h.instance, Counts: c.Counts, Reason: c.Reason, Failure: c.Failure,
	})
	if over := len(changes) - historyLimit; over > 0 {
		changes = slices.Delete(changes, 0, over)
	}
	h.changes[c.Service] = changes
}

// Of returns a service's changes, newest first.
func (h *History) Of(service string) []Change {
	h.mu.Lock()
	defer h.mu.Unlock()
	changes := slices.Clone(h.changes[service])
	slices.Reverse(changes)
	if changes == nil {
		changes = []Change{}
	}
	return changes
}

// Keep forgets the services that are not among those named.
func (h *History) Keep(services []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name := range h.changes {
		if !slices.Contains(services, name) {
			delete(h.changes, name)
		}
	}
}
