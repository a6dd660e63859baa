package breaker

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

// noTimeout is the timeout of a gobreaker that never ends its open state by itself: about 146 years.
const noTimeout = time.Duration(math.MaxInt64 / 2)

// engine is the gobreaker of a half-open and the closed state that follows it, or of the first closed state. It ends when gobreaker
// opens: the open state needs none, because the breaker's own clock ends it. gobreaker can't be put into a state, and fixes its
// settings at construction.
type engine struct {
	env *Environment
	cb  *gobreaker.TwoStepCircuitBreaker[struct{}]

	// policy is loaded for each report, so that limits can change while the engine keeps its counts.
	policy    *atomic.Pointer[Policy]
	forced    bool           // forced closed: it never opens, and its algorithm counts nothing
	decider   decider        // used in the closed state, which an engine enters only once
	learning  *learning      // likewise; nil until the engine is shared
	revocable revocableCalls // the calls of the half-open state whose permit can be revoked

	hasPending atomic.Bool // true while pending is not empty
	opened     atomic.Bool // gobreaker has opened: the engine has ended

	mu      sync.Mutex // guards pending; locked while gobreaker's lock is held, so nothing is called under it
	pending []transition

	initialized bool         // set by start, before the engine is shared
	state       events.State // gobreaker's state; guarded by gobreaker's lock
	trip        tripReason   // of the last report that could open the engine; guarded by gobreaker's lock

	keys      keyedResults // guarded by gobreaker's lock
	dominated atomic.Bool  // one key has caused the failures, and the algorithm must not reject calls because of them

	// consecutiveFailures is that of gobreaker's counts, with the call that is being reported; guarded by gobreaker's lock
	consecutiveFailures uint32
}

// tripReason is why an engine opens.
type tripReason struct {
	cause  events.Cause // "" if it does not open
	counts events.Counts
	failed bool          // whether the reported call failed
	slow   time.Duration // the duration from which on calls counted as slow
}

// transition is one change of gobreaker's state.
type transition struct {
	to   events.State
	at   time.Time
	trip tripReason // why the closed state ended, if it was closed
}

// newEngine returns an engine whose reports have no effect before start. Once gobreaker is open, it stays so for openTimeout. If
// forced is set, the engine never opens.
func newEngine(env *Environment, policy *atomic.Pointer[Policy], forced bool, openTimeout time.Duration) *engine {
	e := &engine{env: env, policy: policy, forced: forced, decider: decider{env: env}}
	p := policy.Load()
	e.cb = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:   uint32(p.HalfOpenRequests),
		Timeout:       openTimeout,
		IsExcluded:    e.isExcluded,
		IsSuccessful:  e.isSuccessful,
		ReadyToTrip:   e.readyToTrip,
		OnStateChange: e.recordTransition,
	})
	return e
}

// newClosedEngine returns an engine that is closed and opens as the policy says. If forced is set, it stays closed.
func newClosedEngine(env *Environment, policy *atomic.Pointer[Policy], forced bool) *engine {
	e := newEngine(env, policy, forced, noTimeout)
	e.start()
	return e
}

// newHalfOpenEngine returns an engine that is half-open. gobreaker becomes half-open only after an open period by the clock of the
// host, and the shortest one lasts 2 ns.
func newHalfOpenEngine(env *Environment, policy *atomic.Pointer[Policy]) *engine {
	e := newEngine(env, policy, false, time.Nanosecond)
	report, _ := e.cb.Allow()
	report(outcomeFailed) // opens it, see readyToTrip
	for e.cb.State() == gobreaker.StateOpen {
		time.Sleep(2 * time.Nanosecond)
	}
	e.start()
	return e
}

// start ends the construction: reports are counted from now on.
func (e *engine) start() {
	e.takeTransitions()
	e.opened.Store(false)
	e.decider.configure(&e.policy.Load().Limits)
	e.initialized = true
}

// allow asks gobreaker to admit a call. If no permit of a half-open state is left, it revokes that of a probe that has waited for
// its client for at least minWait.
func (e *engine) allow(minWait time.Duration) (func(error), error) {
	report, err := e.cb.Allow()
	for err == gobreaker.ErrTooManyRequests && e.revocable.revoke(minWait) {
		report, err = e.cb.Allow()
	}
	if err == nil && e.opened.Load() { // the open period of 1 ns is over, but not that of the breaker
		report(outcomeCancelled)
		return nil, gobreaker.ErrOpenState
	}
	return report, err
}

// For each report, gobreaker calls the functions below, in this order and with its lock held:
//
//  1. isExcluded: does the call count neither as success nor as failure? Then nothing else is called.
//  2. isSuccessful, if it is not excluded. Each call is counted by the algorithm once: here, or in isExcluded if it was abandoned.
//  3. readyToTrip, if isSuccessful returned false and the state is closed: does the engine open now?
//  4. recordTransition, if the state changes.

// isExcluded is gobreaker's IsExcluded: it reports whether a call counts neither as success nor as failure, so that it does not
// end a series of consecutive failures. An abandoned call by which the algorithm opens the breaker is not excluded but counted
// as a failure, because only a failure opens gobreaker.
func (e *engine) isExcluded(err error) bool {
	o := err.(*outcome)
	if !o.abandoned {
		return o.cancelled || o.key != 0 && o.failed && e.state == events.HalfOpen && e.policy.Load().ByKey && e.keys.sparesProbe(o)
	}
	if !e.decider.used.Load() || e.forced || e.state != events.Closed {
		return true
	}
	e.noteKey(o)
	return !e.observe(o)
}

// isSuccessful is gobreaker's IsSuccessful. The algorithm counts the call in it, too. gobreaker calls readyToTrip only after a
// failure, so isSuccessful returns false for a success by which the algorithm opens the breaker.
func (e *engine) isSuccessful(err error) bool {
	o := err.(*outcome)
	if o.abandoned {
		return false // isExcluded has counted it
	}
	if e.consecutiveFailures++; !o.failed {
		e.consecutiveFailures = 0
	}
	if !e.initialized || e.forced || e.state != events.Closed {
		if o.failed {
			e.trip = tripReason{failed: true}
		}
		if e.state == events.HalfOpen && e.learning != nil {
			e.learning.probed(o)
		}
		return !o.failed
	}
	e.noteKey(o)
	unlikely := e.learning.observe(e, o)
	if e.decider.used.Load() && e.observe(o) {
		return false
	}
	if !o.failed {
		return true
	}
	if !e.decider.used.Load() {
		e.trip = tripReason{failed: true}
	}
	if unlikely > 0 && !e.keys.failed.dominated(unlikely) { // the evidence grows by failures only
		e.trip.cause = events.CauseAdaptive
	}
	return false
}

// noteKey records the key of a failed or slow call in the closed state.
func (e *engine) noteKey(o *outcome) {
	switch {
	case !o.failed && !o.slow:
	case e.policy.Load().ByKey:
		e.keys.note(o)
	default:
		e.keys = keyedResults{} // so that nothing is attributed to keys
	}
}

// observe counts a call in the algorithm and reports whether the engine opens. It sets e.trip if that is so or if the call
// failed.
func (e *engine) observe(o *outcome) bool {
	call := algorithm.Observation{Failed: o.failed, Slow: o.slow, Abandoned: o.abandoned, Type: o.kind, Duration: o.took}
	if e.decider.details.Load() {
		call.ConsecutiveFailures = e.consecutiveFailures
	}
	cause, counts := e.decider.observe(call)
	if e.policy.Load().ByKey {
		if cause != "" && e.keys.dominated(cause, counts) {
			cause = ""
		}
		if o.failed {
			e.dominated.Store(e.keys.failed.dominated(counts.Failures))
		}
	}
	if !o.failed && cause == "" {
		return false
	}
	e.trip = tripReason{cause: cause, counts: counts, failed: o.failed, slow: e.learning.slowCallDuration(e.policy.Load())}
	return cause != ""
}

// readyToTrip is gobreaker's ReadyToTrip: it reports whether the engine opens after a call for which isSuccessful has returned
// false. It completes e.trip with gobreaker's counts.
func (e *engine) readyToTrip(counts gobreaker.Counts) bool {
	t := &e.trip
	switch {
	case !e.initialized:
		return true
	case e.forced:
		return false
	case !t.failed: // a success that was reported as a failure, because the algorithm opens the breaker
		return true
	}
	t.counts.ConsecutiveFailures = counts.ConsecutiveFailures
	if limit := e.policy.Load().FailMax; limit > 0 && counts.ConsecutiveFailures >= uint32(limit) && !e.keys.failed.dominated(counts.ConsecutiveFailures) {
		t.cause = events.CauseConsecutiveFailures
		t.counts.Requests, t.counts.Successes, t.counts.Failures = counts.Requests, counts.TotalSuccesses, counts.TotalFailures
	}
	return t.cause != ""
}

// recordTransition is gobreaker's OnStateChange. It only records the transition, because gobreaker's lock is held.
func (e *engine) recordTransition(_ string, from, to gobreaker.State) {
	e.state, e.consecutiveFailures = stateOf(to), 0
	t := transition{to: e.state, at: e.env.now()}
	if e.state == events.Open {
		e.opened.Store(true)
	}
	if from == gobreaker.StateClosed {
		t.trip = e.trip
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pending = append(e.pending, t)
	e.hasPending.Store(true)
}

// takeTransitions returns the transitions since its last call, oldest first.
func (e *engine) takeTransitions() []transition {
	e.mu.Lock()
	defer e.mu.Unlock()
	pending := e.pending
	e.pending = nil
	e.hasPending.Store(false)
	return pending
}

func stateOf(s gobreaker.State) events.State {
	switch s {
	case gobreaker.StateOpen:
		return events.Open
	case gobreaker.StateHalfOpen:
		return events.HalfOpen
	default:
		return events.Closed
	}
}
