package breaker

import (
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"

	"cbproxy/internal/events"
)

// The time that a probe must have waited for its client, in total, before another call may revoke
// its permit.
const (
	// revokeAfter applies to calls whose request has been received completely.
	revokeAfter = 100 * time.Millisecond
	// revokeAfterBeforeUpload applies to calls that may have to wait for their client themselves.
	revokeAfterBeforeUpload = time.Second
)

// probe is a call in a half-open state whose permit can be revoked while it waits for its client.
// It is safe for concurrent use.
type revocableCall struct {
	breaker    *Breaker
	engine     *engine
	clientWait func() time.Duration

	mu       sync.Mutex
	report   func(error) // gobreaker's; nil once the permit has been returned; guarded by mu
	reported bool        // guarded by mu
}

// WithRevocablePermit returns a Call to use instead of c. Its permit in a half-open state can be revoked in
// favour of another call while it waits for its client, so that slow clients do not keep the
// breaker half-open. waited returns how long it has waited for its client in total, 0 if it waits
// for the upstream; it is called on the goroutines of other calls and must return at once. Only
// the returned Call may be reported on. The report counts if the permit was not revoked, or if
// the breaker is still half-open and has a permit left.
func (c Call) WithRevocablePermit(waited func() time.Duration) Call {
	if c.report == nil || c.revocable || c.State != events.HalfOpen {
		return c
	}
	p := &revocableCall{breaker: c.breaker, engine: c.engine, clientWait: waited, report: c.report}
	c.engine.revocable.add(p)
	c.report, c.revocable = p.reportOnce, true
	return c
}

// revoke returns the permit if the call has waited for its client for at least minWait. It reports
// whether it did.
func (p *revocableCall) revoke(minWait time.Duration) bool {
	if p.clientWait() < minWait {
		return false
	}
	p.mu.Lock()
	done := p.report
	p.report = nil
	p.mu.Unlock()
	if done == nil {
		return false
	}
	done(outcomeCancelled)
	return true
}

// report passes o to the engine. Only its first call has an effect.
func (p *revocableCall) reportOnce(o error) {
	p.mu.Lock()
	done, reported := p.report, p.reported
	p.report, p.reported = nil, true
	p.mu.Unlock()
	switch {
	case reported:
		return
	case done != nil:
		p.engine.revocable.remove(p)
		done(o)
	default:
		p.reportLate(o)
	}
}

// reportLate reports the result of a call whose permit was revoked. It acquires a permit for that:
// if all calls to a service are slow uploads, each of them loses its permit, and their results
// must still end the half-open state.
func (p *revocableCall) reportLate(o error) {
	e := p.engine
	if o == outcomeCancelled || e.cb.State() != gobreaker.StateHalfOpen || !p.breaker.mayProbe() {
		return
	}
	if done, err := e.allow(revokeAfter); err == nil {
		done(o)
	}
}

// probes are the revocable probes of an engine. The zero value is ready to use. It is safe for
// concurrent use.
type revocableCalls struct {
	mu  sync.Mutex
	all []*revocableCall // oldest first; guarded by mu
}

func (ps *revocableCalls) add(p *revocableCall) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.all = append(ps.all, p)
}

func (ps *revocableCalls) remove(p *revocableCall) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for i, other := range ps.all {
		if other == p {
			ps.all = append(ps.all[:i], ps.all[i+1:]...)
			return
		}
	}
}

// revoke revokes the permit of the oldest probe that has waited for its client for at least
// minWait. It reports whether there was one.
func (ps *revocableCalls) revoke(minWait time.Duration) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for i, p := range ps.all {
		if p.revoke(minWait) {
			ps.all = append(ps.all[:i], ps.all[i+1:]...)
			return true
		}
	}
	return false
}

// revocable returns the number of probes whose permit any other call may revoke.
func (ps *revocableCalls) countRevocableByAny() int {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	n := 0
	for _, p := range ps.all {
		if p.clientWait() >= revokeAfterBeforeUpload {
			n++
		}
	}
	return n
}
