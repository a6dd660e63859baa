// Package breaker gives the verdict on an upstream: whether it may be asked. gobreaker is
// the engine; what is built around it is a clock, so that an opening ends without traffic,
// and the ability to be put into any state with a remaining time.
package breaker

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"cbproxy/internal/events"
)

// Why Allow refuses a call.
var (
	ErrOpen          = errors.New("circuit breaker is open")
	ErrHalfOpenLimit = errors.New("circuit breaker is half-open and its probes are under way")
)

// Mode is what a breaker does with its verdict.
type Mode int

// The modes of a breaker.
const (
	Enforce Mode = iota // refuse calls
	Shadow              // decide and count as ever, but refuse nothing
	Off                 // let everything pass unseen; the state stays as it is
)

// Policy says when a breaker opens and when it closes again.
type Policy struct {
	Mode Mode
	// FailMax consecutive failures open the breaker; 0 never does.
	FailMax int
	// FailureRatio is the share of failures in Window that opens the breaker; 0 never does.
	FailureRatio float64
	// SlowCallRatio is the share of calls in Window that took SlowCallDuration or longer
	// that opens the breaker; 0 never does.
	SlowCallRatio    float64
	SlowCallDuration time.Duration
	// MinRequests is the number of calls in Window below which no ratio opens the breaker.
	MinRequests int
	Window      time.Duration
	// RecoveryTimeout is how long an opening lasts.
	RecoveryTimeout time.Duration
	// RecoveryBackoff is how openings grow while recovery fails.
	RecoveryBackoff Backoff
	// HalfOpenRequests is how many calls a half-open breaker lets through at once, and how
	// many of them must succeed in a row to close it.
	HalfOpenRequests int
	// Probed reserves the half-open state for AllowProbe: Allow refuses.
	Probed bool
}

// Backoff is how openings grow while recovery fails.
type Backoff struct {
	// Multiplier is the factor after each failed recovery; at least 1.
	Multiplier float64
	// Max is the longest opening; below RecoveryTimeout it has no meaning.
	Max time.Duration
	// Jitter is the largest share that chance adds to an opening after a failed recovery.
	Jitter float64
}

// Breaker decides, call by call, whether a service's upstream may be asked. It is safe for
// concurrent use. Allow and the reports of a Call take only gobreaker's own lock, save
// when the state changes.
type Breaker struct {
	service string
	publish func(events.Event)

	policy      atomic.Pointer[Policy]
	current     atomic.Pointer[stretch]
	lastFailure atomic.Pointer[events.Failure]
	changes     [len(events.States)]atomic.Uint64 // transitions by the state they led to

	mu     sync.Mutex  // held while current is replaced and its event is published
	timer  *time.Timer // ends the current stretch, if time does; guarded by mu
	closed bool        // guarded by mu
}

// A stretch is the time a breaker spends in one state. It is never modified.
type stretch struct {
	engine *engine
	state  events.State
	since  time.Time
	until  time.Time // when time ends it; zero if time does not
	hold   *Hold     // an operator's, nil if the breaker is its own
	// failures is how many calls failed in a row before the breaker opened, and since.
	failures int
}

// New returns a closed breaker for service. publish receives every event, in order, while
// a lock is held: it must return at once and not call back.
func New(service string, policy Policy, publish func(events.Event)) *Breaker {
	b := &Breaker{service: service, publish: publish}
	b.policy.Store(&policy)
	b.current.Store(&stretch{engine: b.engine(0), state: events.Closed, since: time.Now()})
	return b
}

// engine returns a new engine that follows the policy, open for the given time if that is
// positive.
func (b *Breaker) engine(open time.Duration) *engine {
	return newEngine(b.trip, b.policy.Load().HalfOpenRequests, open)
}

// trip reads the policy anew each time: thresholds change under a living engine, and what
// it has counted stays. It runs under gobreaker's lock.
func (b *Breaker) trip(counts gobreaker.Counts) bool {
	limit := b.policy.Load().FailMax
	return limit > 0 && counts.ConsecutiveFailures >= uint32(limit)
}

func neverTrip(gobreaker.Counts) bool { return false }

// Allow asks whether the upstream may be asked now. With a nil error the caller must
// report on the Call exactly once; otherwise the error is ErrOpen or ErrHalfOpenLimit, and
// the Call only tells the state that decided.
func (b *Breaker) Allow() (Call, error) {
	s := b.current.Load()
	done, err := s.engine.cb.Allow()
	if s.engine.moved.Load() || err == nil && s.state == events.Open {
		b.settle()
		s = b.decided(s)
	}
	switch err {
	case nil:
		return Call{breaker: b, engine: s.engine, done: done, State: s.state}, nil
	case gobreaker.ErrTooManyRequests:
		return Call{State: events.HalfOpen}, ErrHalfOpenLimit
	default:
		return Call{State: events.Open}, ErrOpen
	}
}

// decided returns the stretch that decided a call, where s's engine moved on while it was
// asked.
func (b *Breaker) decided(s *stretch) *stretch {
	if now := b.current.Load(); now.engine == s.engine {
		return now
	}
	if s.state == events.Open { // it let a probe through and was replaced since
		return &stretch{engine: s.engine, state: events.HalfOpen}
	}
	return s
}

// Call is one admitted call. Exactly one of its reports must be made, from any goroutine;
// a report on a call that the breaker has moved on from counts for nothing.
type Call struct {
	// State is the state that decided the call.
	State events.State
	// Shadowed is why Allow would have refused the call, where the mode is Shadow; nil if it
	// would not.
	Shadowed error

	breaker *Breaker
	engine  *engine
	done    func(error)
}

// AllowProbe is Allow for the prober of a breaker whose half-open state is reserved for it.
func (b *Breaker) AllowProbe() (Call, error) { return b.Allow() }

// ShadowRejections returns how many calls have passed that Enforce would have refused, by
// why: open, and half-open with its places taken.
func (b *Breaker) ShadowRejections() (open, halfOpenLimit uint64) { return 0, 0 }

// Success reports that the upstream did its part, and how long it took.
func (c Call) Success(took time.Duration) { c.report(nil) }

// Failure reports that the upstream failed, and how long it took.
func (c Call) Failure(f *events.Failure, took time.Duration) {
	c.breaker.lastFailure.Store(f)
	c.report(errFailed)
}

// Cancel reports that the call says nothing of the upstream; a probe's place is given back.
func (c Call) Cancel() { c.report(errCancelled) }

func (c Call) report(err error) {
	c.done(err)
	if c.engine.moved.Load() {
		c.breaker.settle()
	}
}

// SetPolicy puts p in force. What has been counted stays. A changed RecoveryTimeout applies
// to the opening in progress, measured from its start; a changed HalfOpenRequests applies
// from the next half-open state on, so that probes under way keep their meaning.
func (b *Breaker) SetPolicy(p Policy) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settleLocked()
	old := b.policy.Swap(&p)
	if *old == p {
		return
	}
	s := *b.current.Load()
	if s.state != events.Open {
		return
	}
	if s.hold == nil && old.RecoveryTimeout != p.RecoveryTimeout {
		s.until = s.since.Add(p.RecoveryTimeout)
		if soon := time.Now().Add(time.Nanosecond); s.until.Before(soon) {
			s.until = soon
		}
	}
	s.engine = b.engine(remaining(s.until))
	b.enter(&s)
}

// remaining is the time until until, at least 1 ns; endless if until is zero.
func remaining(until time.Time) time.Duration {
	if until.IsZero() {
		return endless
	}
	return max(time.Until(until), time.Nanosecond)
}

// Close stops the breaker's clock. Calls may still be allowed and reported.
func (b *Breaker) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.timer != nil {
		b.timer.Stop()
	}
}
