package breaker

import (
	"errors"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"cbproxy/internal/events"
)

// The errors with which Allow rejects a call.
var (
	ErrOpen          = errors.New("circuit breaker is open")
	ErrHalfOpenLimit = errors.New("circuit breaker is half-open and has no probe permit left")
	ErrThrottled     = errors.New("circuit breaker rejects a share of the calls, because too few succeed")
	ErrRecovering    = errors.New("circuit breaker has closed and lets a growing share of the calls through")
)

// Breaker is the circuit breaker of one service. It is safe for concurrent use. Allow and the reports of a Call take only
// gobreaker's own lock and the algorithm's and, in the half-open state, those of revocable calls, except when the state changes.
type Breaker struct {
	service string
	publish func(events.Event)
	env     Environment

	policy          atomic.Pointer[Policy]
	current         atomic.Pointer[phase]
	lastFailure     atomic.Pointer[events.Failure]
	probePermission atomic.Pointer[func() bool]
	transitions     [len(events.States)]atomic.Uint64 // by the state they led to
	shadowed        [rejections]atomic.Uint64         // calls that were admitted only because of Shadow, by the rejection

	algorithmErrors atomic.Uint64 // the errors of algorithms that are an algorithm.Fallible

	learning learning

	ofService *Breaker // the service's breaker, if this is the breaker of a key; otherwise nil

	retryAfters    retryAfterRow
	hasRetryAfters atomic.Bool // whether retryAfters is not empty, so that other reports take no lock

	mu        sync.Mutex // held while current is replaced and its event is published
	stopTimer func()     // stops the timer that ends the current phase; nil if it has no end; guarded by mu
	closed    bool       // set by Close; guarded by mu
}

// New returns a closed breaker for service. publish receives every event, in order, while a lock is held: it must return at once
// and must not call the breaker.
func New(service string, policy Policy, publish func(events.Event)) *Breaker {
	return NewIn(Environment{}, service, policy, publish)
}

// NewIn is New with an environment.
func NewIn(env Environment, service string, policy Policy, publish func(events.Event)) *Breaker {
	b := newBreaker(env, service, policy, publish)
	b.start()
	return b
}

// newBreaker returns a breaker that must be started.
func newBreaker(env Environment, service string, policy Policy, publish func(events.Event)) *Breaker {
	policy.SetDefaultOptions()
	b := &Breaker{service: service, publish: publish, env: env.withDefaults()}
	b.policy.Store(&policy)
	b.learning.env = &b.env
	b.learning.configure(&policy)
	return b
}

// start begins the first closed state.
func (b *Breaker) start() {
	e := newClosedEngine(&b.env, &b.policy, false)
	b.connect(e)
	b.learning.engine = e
	b.current.Store(&phase{engine: e, state: events.Closed, since: b.env.now()})
}

// Allow decides whether the upstream may be called now. If the error is nil, the caller must report on the Call exactly once.
// Otherwise the error is one of those above, and the Call only contains the state that rejected it. The error is always
// nil in the modes Shadow and Off.
//
// If all permits of a half-open state are in use, Allow revokes the permit of a probe that waits for its client: see
// Call.WithRevocablePermit.
func (b *Breaker) Allow() (Call, error) { return b.admit(false, revokeAfter) }

// AllowBeforeUpload is Allow for a call whose request body has not been received completely, and which may have to wait for its
// client too. It revokes the permit only of a probe that has waited longer than Allow requires.
func (b *Breaker) AllowBeforeUpload() (Call, error) {
	return b.admit(false, revokeAfterBeforeUpload)
}

// AllowActiveProbe is Allow for active probes: see Policy.ActiveProbing. It rejects probes in the mode Shadow as in the mode
// Enforce: an active probe during the open period has no use, and rejecting one affects no client.
func (b *Breaker) AllowActiveProbe() (Call, error) { return b.admit(true, revokeAfter) }

// admit asks the engine whether the call may be made; active is true for an active probe. It does not ask in the mode Off, nor
// for client calls in a half-open state that is reserved for active probes, where they would use up the permits. If no permit is
// left, it revokes that of a probe that has waited for its client for minWait.
func (b *Breaker) admit(active bool, minWait time.Duration) (Call, error) {
	policy, p := b.policy.Load(), b.current.Load()
	var asked time.Time
	if b.env.Record != nil {
		asked = b.env.now()
	}
	if policy.Mode == Off {
		return Call{State: p.state, breaker: b, asked: asked}, nil
	}
	if p.state == events.Open {
		p = b.currentPhase()
	}
	switch {
	case p.state == events.Open, p.state == events.HalfOpen && policy.ActiveProbing && !active:
		return b.reject(rejectionIn(p.state), asked, policy.Mode == Shadow, active)
	case p.state == events.Closed && !active:
		if r, rejected := b.rejectClosed(policy, p); rejected {
			return b.reject(r, asked, policy.Mode == Shadow, active)
		}
	}
	report, err := p.engine.allow(minWait)
	// The engine has opened and the phase is not open: another goroutine has taken the engine's transition and has not yet replaced
	// the phase.
	if err == gobreaker.ErrOpenState || p.engine.hasPending.Load() {
		b.applyTransitions()
		p = b.phaseOfDecision(p)
	}
	switch err {
	case nil:
		if p.state == events.HalfOpen && !b.mayProbe() {
			report(outcomeCancelled)
			return b.reject(rejectedHalfOpenLimit, asked, policy.Mode == Shadow, active)
		}
		return Call{State: p.state, breaker: b, engine: p.engine, report: report, asked: asked}, nil
	case gobreaker.ErrTooManyRequests:
		return b.reject(rejectedHalfOpenLimit, asked, policy.Mode == Shadow, active)
	default:
		return b.reject(rejectedOpen, asked, policy.Mode == Shadow, active)
	}
}

// phaseOfDecision returns the phase to which the decision of p's engine on a call belongs, after the engine's transitions have
// been applied. It is not p if the engine has closed meanwhile.
func (b *Breaker) phaseOfDecision(p *phase) *phase {
	if current := b.current.Load(); current.engine == p.engine {
		return current
	}
	return p
}

// SetProbePermission makes the half-open breaker admit calls only while permitted returns true; otherwise Allow returns
// ErrHalfOpenLimit. permitted is called on the goroutines of calls and must return at once.
func (b *Breaker) SetProbePermission(permitted func() bool) { b.probePermission.Store(&permitted) }

// mayProbe reports whether the function that SetProbePermission has set permits probes.
func (b *Breaker) mayProbe() bool {
	permitted := b.probePermission.Load()
	return permitted == nil || (*permitted)()
}

// PublishProbeGranted publishes an events.ProbeGranted. It is called when the function set by SetProbePermission begins to return
// true.
func (b *Breaker) PublishProbeGranted() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.publish(events.ProbeGranted{Time: b.env.now(), Service: b.service})
}

// Policy returns the current policy.
func (b *Breaker) Policy() Policy { return *b.policy.Load() }

// SetPolicy replaces the policy. An algorithm that stays the same keeps its counts, as far back as the new limits reach; another
// one begins to count. If the counts already reach a new limit, the next report opens the breaker; if that limit is FailMax, the
// next failure does, unless a success comes first. A changed RecoveryTimeout or RecoveryBackoff applies to the current open
// period, measured from its start, unless it was caused by Call.RetryAfter. A changed RecoveryRamp applies to the recovery in
// progress. A changed HalfOpenRequests applies from the next half-open state on, so that it does not change what the probes in
// flight decide.
func (b *Breaker) SetPolicy(policy Policy) {
	policy.SetDefaultOptions()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.applyTransitionsLocked()
	old := b.policy.Load()
	if reflect.DeepEqual(*old, policy) {
		b.policy.Store(&policy)
		return
	}
	b.learning.configure(&policy) // first, so that calls find what the policy refers to
	b.policy.Store(&policy)
	p := *b.current.Load()
	if p.state != events.Open {
		p.engine.decider.configure(&policy.Limits)
		return
	}
	d := policy.openDuration(p.consecutiveOpenings, p.random)
	if p.forced == nil && !p.namedEnd && d != old.openDuration(p.consecutiveOpenings, p.random) {
		p.until = p.since.Add(d)
		if now := b.env.now(); p.until.Before(now) {
			p.until = now
		}
	}
	b.setPhase(&p)
}

// Close stops the breaker's timer. Calls may still be admitted and reported.
func (b *Breaker) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.stopTimer != nil {
		b.stopTimer()
	}
}
