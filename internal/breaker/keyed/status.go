package keyed

import (
	"cmp"
	"slices"
	"time"

	"cbproxy/internal/events"
)

// List returns the status of all keys, the most interesting first: forced, open, half-open, then by consecutive failures, and then
// by their last use.
func (k *Breakers) List() []events.KeyStatus {
	k.mu.Lock()
	all := make([]events.KeyStatus, 0, len(k.entries))
	entries := make([]*entry, 0, len(k.entries))
	for _, e := range k.entries {
		entries = append(entries, e)
		all = append(all, events.KeyStatus{Key: e.key, LastUsed: e.lastUsed})
	}
	k.mu.Unlock()
	for i, e := range entries {
		all[i].BreakerStatus = e.status()
	}
	slices.SortFunc(all, compare)
	return all
}

// compare is the order of List.
func compare(a, b events.KeyStatus) int {
	return cmp.Or(
		cmp.Compare(rank(a), rank(b)), cmp.Compare(b.ConsecutiveFailures, a.ConsecutiveFailures),
		b.LastUsed.Compare(a.LastUsed), cmp.Compare(a.Key, b.Key),
	)
}

func rank(s events.KeyStatus) int {
	switch {
	case s.Forced != nil:
		return 0
	case s.State == events.Open:
		return 1
	case s.State == events.HalfOpen:
		return 2
	}
	return 3
}

// status returns the status of the entry's breaker.
func (e *entry) status() events.BreakerStatus {
	if b := e.breaker.Load(); b != nil {
		return b.Status()
	}
	return events.BreakerStatus{State: events.Closed, Since: e.created, AdmittedRatio: 1}
}

// Status returns the status of one key. A key that is not known is closed.
func (k *Breakers) Status(key string) events.KeyStatus {
	k.mu.Lock()
	e := k.entries[key]
	s := events.KeyStatus{Key: key}
	if e != nil {
		s.LastUsed = e.lastUsed
	}
	k.mu.Unlock()
	if e == nil {
		s.Since, s.AdmittedRatio = time.Now(), 1
		return s
	}
	s.BreakerStatus = e.status()
	return s
}

// Counts returns the numbers of keys by state, and of what has happened to them.
func (k *Breakers) Counts() events.KeyCounts {
	k.mu.Lock()
	entries := make([]*entry, 0, len(k.entries))
	for _, e := range k.entries {
		entries = append(entries, e)
	}
	k.mu.Unlock()
	c := events.KeyCounts{Evictions: k.evictions.Load()}
	for _, e := range entries {
		c.Keys[e.state()]++
	}
	for _, state := range events.States {
		c.Transitions[state] = k.transitions[state].Load()
	}
	return c
}

// Force sets the state of the breaker of a key for an operator: see breaker.Breaker.Force. A key that is not known is added.
func (k *Breakers) Force(key string, state events.State, d time.Duration, reason string) error {
	if !Valid(key) {
		return ErrInvalidKey
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return ErrClosed
	}
	e := k.entries[key]
	if e == nil {
		if e = k.add(key, time.Now()); e == nil {
			return ErrAllForced
		}
	}
	e.makeBreakerLocked().Force(state, d, reason)
	return nil
}

// Release ends the forced state of the breaker of a key, if there is one.
func (k *Breakers) Release(key, reason string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.entries[key]
	if e == nil {
		return
	}
	if b := e.breaker.Load(); b != nil {
		b.Release(reason)
	}
}
