package breaker

import (
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"

	"cbproxy/internal/events"
)

// How long a probe waits for its client, in sum, before another call takes its place.
const (
	// readyAfter is for a call that needs nothing more from its client.
	readyAfter = 100 * time.Millisecond
	// unreadyAfter is for one that may wait for its client as well.
	unreadyAfter = time.Second
)

// A probe is a call in a half-open state whose place another call may take while it waits for
// its client. Safe for concurrent use.
type probe struct {
	breaker *Breaker
	engine  *engine
	waits   func() time.Duration

	mu       sync.Mutex
	done     func(error) // nil: the place is given back
	reported bool
}

// Revocable returns c such that another call can take its place in a half-open state while it
// waits for its client. waits returns how long it has done so, 0 while it waits for the
// upstream; it is called on the goroutines of other calls and must return at once. The
// report on the returned Call is the only one then. It counts if the place was not taken, or
// if the breaker is still half-open and has a place free.
func (c Call) Revocable(waits func() time.Duration) Call {
	if c.done == nil || c.revocable || c.State != events.HalfOpen {
		return c
	}
	p := &probe{breaker: c.breaker, engine: c.engine, waits: waits, done: c.done}
	c.engine.probes.add(p)
	c.done, c.revocable = p.report, true
	return c
}

// revoke gives the place back if the call has waited for its client for at least after. It
// reports whether it did.
func (p *probe) revoke(after time.Duration) bool {
	if p.waits() < after {
		return false
	}
	p.mu.Lock()
	done := p.done
	p.done = nil
	p.mu.Unlock()
	if done == nil {
		return false
	}
	done(cancelled)
	return true
}

// report passes o on to the engine, once.
func (p *probe) report(o error) {
	p.mu.Lock()
	done, reported := p.done, p.reported
	p.done, p.reported = nil, true
	p.mu.Unlock()
	switch {
	case reported:
		return
	case done != nil:
		p.engine.probes.remove(p)
		done(o)
	default:
		p.reportLate(o)
	}
}

// reportLate reports on a call whose place was taken. It takes a place again for that: if all
// calls of a service are slow uploads, each loses its place, and they must still end the
// half-open state.
func (p *probe) reportLate(o error) {
	e := p.engine
	if o == cancelled || e.cb.State() != gobreaker.StateHalfOpen || !p.breaker.myTurn() {
		return
	}
	if done, err := e.allow(readyAfter); err == nil {
		done(o)
	}
}

// probes are the revocable probes of an engine. The zero probes are ready; safe for concurrent
// use.
type probes struct {
	mu  sync.Mutex
	all []*probe // oldest first
}

func (ps *probes) add(p *probe) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.all = append(ps.all, p)
}

func (ps *probes) remove(p *probe) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for i, other := range ps.all {
		if other == p {
			ps.all = append(ps.all[:i], ps.all[i+1:]...)
			return
		}
	}
}

// revoke gives back the place of one probe that has waited for its client for at least after.
// It reports whether there was one.
func (ps *probes) revoke(after time.Duration) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for i, p := range ps.all {
		if p.revoke(after) {
			ps.all = append(ps.all[:i], ps.all[i+1:]...)
			return true
		}
	}
	return false
}

// waiting returns how many probes any other call may replace.
func (ps *probes) waiting() int {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	n := 0
	for _, p := range ps.all {
		if p.waits() >= unreadyAfter {
			n++
		}
	}
	return n
}
