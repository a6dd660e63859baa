package breaker

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"cbproxy/internal/events"
)

// An outcome is what an engine is told of a call. It travels through gobreaker as an
// error; those below are all there are, so that telling allocates nothing.
type outcome struct {
	name                    string
	failed, slow, cancelled bool
	abandoned               bool // neither a success nor a failure, but a call of the slow ratio
}

var (
	succeeded     = &outcome{name: "succeeded"}
	succeededSlow = &outcome{name: "succeeded slowly", slow: true}
	failed        = &outcome{name: "failed", failed: true}
	failedSlow    = &outcome{name: "failed slowly", failed: true, slow: true}
	cancelled     = &outcome{name: "cancelled", cancelled: true}
	abandonedSlow = &outcome{name: "abandoned slowly", slow: true, abandoned: true}
)

func (o *outcome) Error() string { return o.name }

// endless is an opening that only a replaced engine ends: some 146 years.
const endless = time.Duration(math.MaxInt64 / 2)

// An engine is a gobreaker born for one stretch of life, which ends at the latest when it
// opens again: gobreaker fixes its timings at birth, so each opening has its own engine.
type engine struct {
	cb *gobreaker.TwoStepCircuitBreaker[struct{}]

	// policy is read anew for each report: limits change under a living engine, and what it
	// has counted stays.
	policy *atomic.Pointer[Policy]
	held   bool   // an operator's: nothing opens it, and nothing is counted for ratios
	window window // of the closed state, in which an engine is but once
	probes probes // of the half-open state, which may be revoked

	moved atomic.Bool // set while notes wait

	mu    sync.Mutex // guards notes; taken under gobreaker's lock, so nothing is called under it
	notes []note

	born    bool         // false while the engine is being put into its first state
	state   events.State // gobreaker's; under its lock
	verdict verdict      // on the last report that could open the engine; under gobreaker's lock
}

// A verdict is why an engine opens, or that it does not.
type verdict struct {
	cause  events.Cause // "" if it does not
	counts events.Counts
	failed bool          // whether the call that decided failed itself
	slow   time.Duration // how long the slow calls took at least
}

// A note is one transition as gobreaker's callback saw it.
type note struct {
	to      events.State
	at      time.Time
	verdict verdict // on the closed state that it ended
}

// newEngine returns an engine that is closed and opens when policy says so, or never if it
// is held. If open is positive, the engine is born open and goes to half-open once open
// has passed.
func newEngine(policy *atomic.Pointer[Policy], held bool, open time.Duration) *engine {
	e := &engine{policy: policy, held: held}
	timeout := open
	if open <= 0 {
		timeout = endless
	}
	p := policy.Load()
	e.cb = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:   uint32(p.HalfOpenRequests),
		Timeout:       timeout,
		IsExcluded:    e.excludes,
		IsSuccessful:  e.judge,
		ReadyToTrip:   e.trips,
		OnStateChange: e.note,
	})
	if open > 0 {
		done, _ := e.cb.Allow()
		done(failed)
		e.take()
	}
	e.window.set(p) // only now: the failure that opened it at birth is none
	e.born = true
	return e
}

// newHalfOpenEngine returns an engine that is half-open. gobreaker reaches that state only
// through an opening, and the shortest takes 2 ns to be over.
func newHalfOpenEngine(policy *atomic.Pointer[Policy]) *engine {
	e := newEngine(policy, false, time.Nanosecond)
	for e.cb.State() == gobreaker.StateOpen {
		time.Sleep(2 * time.Nanosecond)
	}
	e.take()
	return e
}

// excludes tells gobreaker whether a call counts neither as a success nor as a failure, so that failures in a row stay in a
// row. gobreaker asks under its lock, once for each report and before judge. An abandoned call that reaches a ratio is
// passed off as a failure, as nothing else opens.
func (e *engine) excludes(err error) bool {
	o := err.(*outcome)
	if !o.abandoned {
		return o.cancelled
	}
	p := e.policy.Load()
	if !p.rolls() || e.held || e.state != events.Closed {
		return true
	}
	return !e.count(p, o)
}

// allow asks gobreaker. If all places of a half-open state are in use, it takes that of a probe
// that has waited for its client for at least after.
func (e *engine) allow(after time.Duration) (func(error), error) {
	done, err := e.cb.Allow()
	for err == gobreaker.ErrTooManyRequests && e.probes.revoke(after) {
		done, err = e.cb.Allow()
	}
	return done, err
}

// judge tells gobreaker whether a call succeeded. gobreaker asks under its lock, once for
// each report that counts, which makes this the place to count for the ratios as well.
// It asks trips after a failure only: a success that reaches a ratio is passed off as one.
func (e *engine) judge(err error) bool {
	o := err.(*outcome)
	if o.abandoned {
		return false // excludes has counted it
	}
	p := e.policy.Load()
	if !p.rolls() || e.held || e.state != events.Closed {
		if o.failed {
			e.verdict = verdict{failed: true}
		}
		return !o.failed
	}
	return !e.count(p, o) && !o.failed
}

// count counts a call for the ratios, sets the verdict on it unless it is a success that reaches none, and reports whether
// it reaches one.
func (e *engine) count(p *Policy, o *outcome) bool {
	t := e.window.count(o.failed, o.slow)
	cause := p.exceeded(t)
	if !o.failed && cause == "" {
		return false
	}
	e.verdict = verdict{cause: cause, failed: o.failed, slow: p.SlowCallDuration, counts: events.Counts{
		Requests:  t.requests,
		Successes: t.requests - t.failures,
		Failures:  t.failures,
		Slow:      t.slow,
	}}
	return cause != ""
}

// trips completes the verdict on what judge called a failure, with what gobreaker counted.
func (e *engine) trips(counts gobreaker.Counts) bool {
	v := &e.verdict
	switch {
	case !e.born:
		return true
	case e.held:
		return false
	case !v.failed: // gobreaker has counted a success for a failure
		return true
	}
	v.counts.ConsecutiveFailures = counts.ConsecutiveFailures
	if limit := e.policy.Load().FailMax; limit > 0 && counts.ConsecutiveFailures >= uint32(limit) {
		v.cause = events.CauseConsecutiveFailures
		v.counts.Requests, v.counts.Successes, v.counts.Failures = counts.Requests, counts.TotalSuccesses, counts.TotalFailures
	}
	return v.cause != ""
}

// note is gobreaker's callback: it runs under gobreaker's lock and only writes down.
func (e *engine) note(_ string, from, to gobreaker.State) {
	e.state = stateOf(to)
	n := note{to: e.state, at: time.Now()}
	if from == gobreaker.StateClosed {
		n.verdict = e.verdict
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.notes = append(e.notes, n)
	e.moved.Store(true)
}

// take returns the notes since the last take, oldest first.
func (e *engine) take() []note {
	e.mu.Lock()
	defer e.mu.Unlock()
	notes := e.notes
	e.notes = nil
	e.moved.Store(false)
	return notes
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
