// Package breaker gives the verdict on an upstream: whether it may be asked. gobreaker is
// the engine; what is built around it is a clock, so that an opening ends without traffic,
// a rolling window for shares of failed and slow calls, openings that grow while recovery
// fails, and the ability to be put into any state with a remaining time.
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

// Breaker decides, call by call, whether a service's upstream may be asked. It is safe for
// concurrent use. Allow and the reports of a Call take only gobreaker's own lock and the
// window's, save when the state changes.
type Breaker struct {
	service string
	publish func(events.Event)

	policy      atomic.Pointer[Policy]
	current     atomic.Pointer[stretch]
	lastFailure atomic.Pointer[events.Failure]
	turn        atomic.Pointer[func() bool]
	changes     [len(events.States)]atomic.Uint64 // transitions by the state they led to
	shadowed    [len(events.States)]atomic.Uint64 // calls that only Shadow let pass, by state

	mu     sync.Mutex  // held while current is replaced and its event is published
	timer  *time.Timer // ends the current stretch, if time does; guarded by mu
	closed bool        // guarded by mu
}

// A stretch is the time a breaker spends in one state. It is never modified.
type stretch struct {
	engine *engine
	state  events.State
	since  time.Time
	until  time.Time    // when time ends it; zero if time does not
	cause  events.Cause // of the change that led here; "" for the first closed state
	hold   *ForcedState // an operator's, nil if the breaker is its own
	// failures is how many calls failed in a row before the breaker opened, and since.
	failures int
	// openings is how many openings in a row led here, an opening itself included. One held
	// by an operator is in no row.
	openings int
	// chance is the opening's share of the jitter, drawn once, so that a changed policy
	// means the same end each time it is asked.
	chance float64
}

// New returns a closed breaker for service. publish receives every event, in order, while
// a lock is held: it must return at once and not call back.
func New(service string, policy Policy, publish func(events.Event)) *Breaker {
	b := &Breaker{service: service, publish: publish}
	b.policy.Store(&policy)
	b.current.Store(&stretch{engine: newEngine(&b.policy, false, 0), state: events.Closed, since: time.Now()})
	return b
}

// Allow asks whether the upstream may be asked now. With a nil error the caller must
// report on the Call exactly once; otherwise the error is ErrOpen or ErrHalfOpenLimit, and
// the Call only tells the state that decided. The error is always nil in the modes Shadow
// and Off.
//
// In a half-open state a call that is allowed takes the place of a probe that waits for its
// client, if all places are in use: see Call.Revocable.
func (b *Breaker) Allow() (Call, error) { return b.decide(false, readyAfter) }

// AllowBeforeUpload is Allow for a call that may have to wait for its client itself: it leaves other
// such calls more time before it takes their place.
func (b *Breaker) AllowBeforeUpload() (Call, error) { return b.decide(false, unreadyAfter) }

// AllowProbe is Allow for the prober of a breaker whose half-open state is reserved for
// it. Shadow refuses it what Enforce would: a probe at the wrong time is no user's loss,
// and letting it through would tell nothing.
func (b *Breaker) AllowProbe() (Call, error) { return b.decide(true, readyAfter) }

// decide asks the engine, unless it must not be touched: by nobody in the mode Off, and by
// users in a half-open state that is reserved, where they would take the prober's places. A
// probe that has waited for its client for at least after gives its place to the call.
func (b *Breaker) decide(prober bool, after time.Duration) (Call, error) {
	p, s := b.policy.Load(), b.current.Load()
	if p.Mode == Off {
		return Call{State: s.state}, nil
	}
	if p.ActiveProbing && !prober && s.state != events.Closed {
		if s = b.now(); s.state != events.Closed {
			return b.refuse(s.state, p.Mode == Shadow)
		}
	}
	done, err := s.engine.allow(after)
	if s.engine.moved.Load() || (err == gobreaker.ErrOpenState) != (s.state == events.Open) { // perhaps somebody is settling it just now
		b.settle()
		s = b.decided(s)
	}
	switch err {
	case nil:
		if s.state == events.HalfOpen && !b.myTurn() {
			done(cancelled)
			return b.refuse(events.HalfOpen, p.Mode == Shadow && !prober)
		}
		return Call{State: s.state, breaker: b, engine: s.engine, done: done}, nil
	case gobreaker.ErrTooManyRequests:
		return b.refuse(events.HalfOpen, p.Mode == Shadow && !prober)
	default:
		return b.refuse(events.Open, p.Mode == Shadow && !prober)
	}
}

// refuse answers a call that state refuses; where shadow is set, by letting it pass.
func (b *Breaker) refuse(state events.State, shadow bool) (Call, error) {
	err := ErrOpen
	if state == events.HalfOpen {
		err = ErrHalfOpenLimit
	}
	if shadow {
		b.shadowed[state].Add(1)
		return Call{State: state, Shadowed: err}, nil
	}
	call := Call{State: state}
	if s := b.current.Load(); state == events.Open {
		if call.RetryAt = s.until; s.state != events.Open {
			call.RetryAt = time.Now() // it has ended since
		}
	}
	return call, err
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

// SetProbePermission makes the half-open breaker let a call through only where turn says that it is this
// breaker's turn to probe; otherwise Allow returns ErrHalfOpenLimit. turn is asked on the
// calls' goroutines and must return at once.
func (b *Breaker) SetProbePermission(turn func() bool) { b.turn.Store(&turn) }

func (b *Breaker) myTurn() bool {
	turn := b.turn.Load()
	return turn == nil || (*turn)()
}

// ProbeGranted tells who listens to events that turn has become true.
func (b *Breaker) ProbeGranted() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.publish(events.ProbeGranted{Time: time.Now(), Service: b.service})
}

// Policy returns the policy in force.
func (b *Breaker) Policy() Policy { return *b.policy.Load() }

// SetPolicy puts p in force. What has been counted stays, as far as the new window
// reaches; a limit that it reaches already opens the breaker at the next report. A changed
// RecoveryTimeout or RecoveryBackoff applies to the opening in progress, measured from its
// start; a changed HalfOpenRequests applies from the next half-open state on, so that
// probes under way keep their meaning.
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
		s.engine.window.set(&p)
		return
	}
	if d := p.opening(s.openings, s.chance); s.hold == nil && d != old.opening(s.openings, s.chance) {
		s.until = s.since.Add(d)
		if soon := time.Now().Add(time.Nanosecond); s.until.Before(soon) {
			s.until = soon
		}
	}
	s.engine = b.engine(s.until)
	b.enter(&s)
}

// engine returns a new engine that is open until until; endlessly if that is zero.
func (b *Breaker) engine(until time.Time) *engine {
	return newEngine(&b.policy, false, remaining(until))
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
