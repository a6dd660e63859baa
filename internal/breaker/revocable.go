package breaker

import (
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"

	"cbproxy/internal/events"
)

// The time that a call must have waited for its client, in total, before another call may revoke its permit.
const (
	// revokeAfter applies to calls whose request has been received completely.
	revokeAfter = 100 * time.Millisecond
	// revokeAfterBeforeUpload applies to calls that may have to wait for their client themselves.
	revokeAfterBeforeUpload = time.Second
)

// revocableCall is a call in a half-open state whose permit can be revoked while it waits for its client. It is safe for
// concurrent use.
type revocableCall struct {
	breaker    *Breaker
	engine     *engine
	clientWait func() time.Duration

	mu       sync.Mutex
	report   func(error) // reports to gobreaker; nil once the permit has been returned; guarded by mu
	reported bool        // guarded by mu
}

// WithRevocablePermit returns a Call to use instead of c. Its permit in a half-open state can be revoked in favour of another
// call while it waits for its client, so that slow clients do not keep the breaker half-open. clientWait returns how long it has
// waited for its client in total, 0 if it waits for the upstream; it is called on the goroutines of other calls and must return
// at once. Only the returned Call may be reported on. The report counts if the permit was not revoked, or if the breaker is still
// half-open and has a permit left.
func (c Call) WithRevocablePermit(clientWait func() time.Duration) Call {
	if c.report == nil || c.revocable || c.State != events.HalfOpen {
		return c
	}
	if c.ofKey != nil {
		c.ofKey.MakeRevocable(clientWait)
	}
	r := &revocableCall{breaker: c.breaker, engine: c.engine, clientWait: clientWait, report: c.report}
	c.engine.revocable.add(r)
	c.report, c.revocable = r.reportOnce, true
	return c
}

// revoke returns the permit if the call has waited for its client for at least minWait. It reports whether it did.
func (c *revocableCall) revoke(minWait time.Duration) bool {
	if c.clientWait() < minWait {
		return false
	}
	c.mu.Lock()
	report := c.report
	c.report = nil
	c.mu.Unlock()
	if report == nil {
		return false
	}
	report(outcomeCancelled)
	return true
}

// reportOnce passes o to the engine. Only its first call has an effect.
func (c *revocableCall) reportOnce(o error) {
	c.mu.Lock()
	report, reported := c.report, c.reported
	c.report, c.reported = nil, true
	c.mu.Unlock()
	switch {
	case reported:
		return
	case report != nil:
		c.engine.revocable.remove(c)
		report(o)
	default:
		c.reportLate(o)
	}
}

// reportLate reports the result of a call whose permit was revoked. It acquires a permit for that: if all calls to a service are
// slow uploads, each of them loses its permit, and their results must still end the half-open state.
func (c *revocableCall) reportLate(o error) {
	e := c.engine
	if o == outcomeCancelled || e.opened.Load() || e.cb.State() != gobreaker.StateHalfOpen || !c.breaker.mayProbe() {
		return
	}
	if report, err := e.allow(revokeAfter); err == nil {
		report(o)
	}
}

// revocableCalls are the revocable calls of an engine. The zero value is ready to use. It is safe for concurrent use.
type revocableCalls struct {
	mu  sync.Mutex
	all []*revocableCall // oldest first; guarded by mu
}

func (cs *revocableCalls) add(c *revocableCall) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.all = append(cs.all, c)
}

func (cs *revocableCalls) remove(c *revocableCall) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for i, other := range cs.all {
		if other == c {
			cs.all = append(cs.all[:i], cs.all[i+1:]...)
			return
		}
	}
}

// revoke revokes the permit of the oldest call that has waited for its client for at least minWait. It reports whether there was
// one.
func (cs *revocableCalls) revoke(minWait time.Duration) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for i, c := range cs.all {
		if c.revoke(minWait) {
			cs.all = append(cs.all[:i], cs.all[i+1:]...)
			return true
		}
	}
	return false
}

// countRevocableBeforeUpload returns the number of calls whose permit every other call may revoke, even a call of
// AllowBeforeUpload.
func (cs *revocableCalls) countRevocableBeforeUpload() int {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	n := 0
	for _, c := range cs.all {
		if c.clientWait() >= revokeAfterBeforeUpload {
			n++
		}
	}
	return n
}
