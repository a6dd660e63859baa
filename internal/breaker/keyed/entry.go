package keyed

import (
	"container/list"
	"hash/maphash"
	"strings"
	"sync/atomic"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
)

// entry is one key.
type entry struct {
	of      *Breakers
	key     string
	hash    uint64 // of key; not 0
	created time.Time
	breaker atomic.Pointer[breaker.Breaker] // nil: it is closed and has seen no failure
	// quiet is set while the breaker need not be asked if Breakers.byFailures is set: there is none, or it is settled. See report.
	quiet atomic.Bool
	// pending is the number of successes while it was quiet that the breaker has not counted.
	pending atomic.Int64

	// The fields below are guarded by Breakers.mu.
	lastUsed     time.Time
	pendingSince time.Time     // when the first pending success was asked for
	element      *list.Element // of Breakers.recent
	removed      bool
}

// state returns the state of the entry's breaker.
func (e *entry) state() events.State {
	if b := e.breaker.Load(); b != nil {
		return b.State()
	}
	return events.Closed
}

// use returns the entry of a key that is used at a time. It returns nil if the key has none.
func (k *Breakers) use(key string, at time.Time) *entry {
	if !Valid(key) {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.entries[key]
	if e == nil {
		if e = k.add(key, at); e == nil {
			return nil
		}
	}
	e.flushOld(at)
	if at.After(e.lastUsed) {
		e.lastUsed = at
	}
	k.recent.MoveToFront(e.element)
	return e
}

// add adds an entry. It returns nil if there is no room for it. k.mu is held.
func (k *Breakers) add(key string, at time.Time) *entry {
	if k.closed || len(k.entries) >= k.max && !k.evict() {
		return nil
	}
	key = strings.Clone(key) // it may be a part of a longer string, such as the header section of a request
	e := &entry{of: k, key: key, hash: max(maphash.String(k.seed, key), 1), created: at}
	e.quiet.Store(true)
	e.element = k.recent.PushFront(e)
	k.entries[key] = e
	return e
}

// maxScan is the number of keys among which evict looks for one whose breaker is not open.
const maxScan = 1000

// evict removes the key that was used least recently and whose breaker is not open, or if all are open just the former. It removes none
// whose state is forced. It reports whether it has removed one. k.mu is held.
func (k *Breakers) evict() bool {
	var victim *entry
	scanned := 0
	for element := k.recent.Back(); element != nil && (victim == nil || scanned < maxScan); element = element.Prev() {
		scanned++
		e, open, forced := element.Value.(*entry), false, false
		if b := e.breaker.Load(); b != nil {
			open, forced = b.OpenOrForced()
		}
		if forced || open && victim != nil {
			continue
		}
		if victim = e; !open {
			break
		}
	}
	if victim == nil {
		return false
	}
	k.evictions.Add(1)
	k.remove(victim)
	return true
}

// remove removes an entry. Calls in flight may still be reported to its breaker. k.mu is held.
func (k *Breakers) remove(e *entry) {
	delete(k.entries, e.key)
	k.recent.Remove(e.element)
	e.removed = true
	if b := e.breaker.Load(); b != nil {
		b.Close()
	}
}

// makeBreaker returns the entry's breaker, which it makes if there is none. It returns nil if the entry has been removed without
// ever having had one.
func (e *entry) makeBreaker() *breaker.Breaker {
	if b := e.breaker.Load(); b != nil {
		return b
	}
	e.of.mu.Lock()
	defer e.of.mu.Unlock()
	return e.makeBreakerLocked()
}

// makeBreakerLocked is makeBreaker for a caller that holds the lock.
func (e *entry) makeBreakerLocked() *breaker.Breaker {
	if b := e.breaker.Load(); b != nil || e.removed {
		return b
	}
	b := breaker.NewForKey(e.of.service, e.of.policy, e.handleEvent)
	e.breaker.Store(b)
	return b
}

// handleEvent handles an event of the breaker, whose lock is held. The next closed state counts anew.
func (e *entry) handleEvent(event events.Event) {
	switch event := event.(type) {
	case events.StateChanged:
		e.reset()
		e.of.stateChanged(event)
	case events.Forced:
		e.reset()
	}
}

func (e *entry) reset() {
	e.quiet.Store(false)
	e.pending.Store(0)
}
