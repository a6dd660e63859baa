package breaker

import (
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"cbproxy/internal/events"
)

// What an engine is told of a call. gobreaker takes nil for a success.
var (
	errFailed    = errors.New("failed")
	errCancelled = errors.New("cancelled")
)

// endless is an opening that only a replaced engine ends: some 146 years.
const endless = time.Duration(math.MaxInt64 / 2)

// An engine is a gobreaker born for one stretch of life, which ends at the latest when it
// opens again: gobreaker fixes its timings at birth, so each opening has its own engine.
type engine struct {
	cb *gobreaker.TwoStepCircuitBreaker[struct{}]

	moved atomic.Bool // set while notes wait

	mu    sync.Mutex // guards notes; taken under gobreaker's lock, so nothing is called under it
	notes []note

	born bool             // false while the engine is being put into its first state
	last gobreaker.Counts // what was counted when it last tripped; under gobreaker's lock
}

// A note is one transition as gobreaker's callback saw it.
type note struct {
	to     events.State
	at     time.Time
	counts gobreaker.Counts
}

// newEngine returns a closed engine that opens when trip says so. If open is positive, the
// engine is born open and goes to half-open once open has passed.
func newEngine(trip func(gobreaker.Counts) bool, probes int, open time.Duration) *engine {
	e := new(engine)
	timeout := open
	if open <= 0 {
		timeout = endless
	}
	e.cb = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests: uint32(probes),
		Timeout:     timeout,
		ReadyToTrip: func(counts gobreaker.Counts) bool {
			e.last = counts
			return !e.born || trip(counts)
		},
		OnStateChange: e.note,
		IsSuccessful:  func(err error) bool { return err == nil },
		IsExcluded:    func(err error) bool { return err == errCancelled },
	})
	if open > 0 {
		done, _ := e.cb.Allow()
		done(errFailed)
		e.take()
	}
	e.born = true
	return e
}

// newHalfOpenEngine returns an engine that is half-open. gobreaker reaches that state only
// through an opening, and the shortest takes 2 ns to be over.
func newHalfOpenEngine(trip func(gobreaker.Counts) bool, probes int) *engine {
	e := newEngine(trip, probes, time.Nanosecond)
	for e.cb.State() == gobreaker.StateOpen {
		time.Sleep(2 * time.Nanosecond)
	}
	e.take()
	return e
}

// note is gobreaker's callback: it runs under gobreaker's lock and only writes down.
func (e *engine) note(_ string, from, to gobreaker.State) {
	n := note{to: stateOf(to), at: time.Now()}
	if from == gobreaker.StateClosed {
		n.counts = e.last
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
