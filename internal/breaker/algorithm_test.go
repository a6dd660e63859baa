package breaker

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

func TestUnknownAlgorithmOpensNothing(t *testing.T) {
	p := ratioPolicy()
	p.Algorithm, p.FailMax = "unknown", 3
	w := newTestBreaker(t, p)
	w.call(2, false, 0)
	w.call(1, true, 0)
	if s := w.Status(); s.State != events.Closed || s.Window != nil || s.RejectionRatio != 0 {
		t.Errorf("%+v", s)
	}
	w.call(3, false, 0)
	w.want(events.Open)
}

// spy is an algorithm that records what it is called with, and opens or rejects when it is told to.
type spy struct {
	configured []time.Duration
	observed   []algorithm.Observation
	asked      int
	last       time.Duration // of the calls so far
	disorder   bool          // the time has decreased
	open       bool
	reject     bool
}

func (s *spy) at(now time.Duration) {
	s.disorder = s.disorder || now < s.last
	s.last = now
}

func (s *spy) Configure(now time.Duration, _ *algorithm.Limits) {
	s.at(now)
	s.configured = append(s.configured, now)
}

func (s *spy) Observe(now time.Duration, call algorithm.Observation) events.Cause {
	s.at(now)
	s.observed = append(s.observed, call)
	if s.open {
		return "spy"
	}
	return ""
}

func (s *spy) Counts(now time.Duration) events.Counts {
	s.at(now)
	return events.Counts{Requests: uint32(len(s.observed))}
}

func (s *spy) Admit(now time.Duration, random float64) bool {
	s.at(now)
	s.asked++
	return !s.reject && random >= 0 && random < 1
}

func (s *spy) RejectionRatio(now time.Duration) float64 { s.at(now); return 0.25 }

func init() {
	RegisterAlgorithm("spy", algorithm.Factory{New: func() algorithm.Algorithm { return new(spy) }})
}

func newSpied(t *testing.T, p Policy) (*testBreaker, func() *spy) {
	p.Algorithm = "spy"
	w := newTestBreaker(t, p)
	return w, func() *spy { return w.current.Load().engine.decider.algorithm.(*spy) }
}

func spyPolicy() Policy {
	return Policy{
		Limits:  algorithm.Limits{SlowCallRatio: 1, SlowCallDuration: time.Second},
		FailMax: 10, RecoveryTimeout: time.Minute, HalfOpenRequests: 2,
	}
}

func TestAlgorithmSeesTheCallsOfTheClosedState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, current := newSpied(t, spyPolicy())
		first := current()
		time.Sleep(time.Minute)
		late := w.allow()
		w.report("sfSFac", time.Second)
		w.allow().RetryAfter(time.Now().Add(time.Hour))
		probe, _ := w.AllowActiveProbe()
		probe.Success(0)
		want := []algorithm.Observation{{}, {Failed: true}, {Slow: true}, {Failed: true, Slow: true}, {Slow: true, Abandoned: true}, {}}
		if !slices.Equal(first.observed, want) {
			t.Errorf("observed %+v, want %+v", first.observed, want)
		}
		if first.asked != 8 { // all but the active probe
			t.Errorf("asked for %d calls", first.asked)
		}
		if s := w.Status(); s.RejectionRatio != 0.25 || s.Window.Requests != 6 {
			t.Errorf("rejection ratio %v, counts %+v", s.RejectionRatio, s.Window)
		}
		w.call(10, false, 0)
		w.want(events.Open)
		if s := w.Status(); s.RejectionRatio != 0 || s.Window.Requests != 0 {
			t.Errorf("open: rejection ratio %v, counts %+v", s.RejectionRatio, s.Window)
		}
		w.waitHalfOpen()
		w.call(1, true, 0)
		w.call(1, false, 0)
		w.waitHalfOpen()
		w.call(2, true, 0)
		w.want(events.Closed)
		late.Failure(&events.Failure{}, 0)
		if s := current(); s == first || len(s.observed) != 0 || s.asked != 0 {
			t.Errorf("the algorithm of the next closed state has seen %+v, %d calls were asked for", s.observed, s.asked)
		}
		w.call(1, true, 0)
		if s := current(); len(s.observed) != 1 || s.disorder || first.disorder {
			t.Errorf("%+v", s)
		}
	})
}

// The algorithm may open the breaker by any call that it sees.
func TestAlgorithmOpensByAnyCall(t *testing.T) {
	for _, result := range []string{"s", "f", "S", "F", "a"} {
		t.Run(result, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := spyPolicy()
				p.FailMax = 0
				w, current := newSpied(t, p)
				w.report("sfs", 0)
				current().open = true
				w.report("c", 0)
				w.want(events.Closed)
				w.report(result, 0)
				w.want(events.Open)
				if c := w.change.Load(); c.Cause != "spy" || c.Counts.Requests != 4 {
					t.Errorf("opened by %s, %+v", c.Cause, c.Counts)
				}
			})
		})
	}
}

func TestLimiterIsNotAskedWithoutEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := spyPolicy()
		p.HalfOpenRequests = 1
		w, current := newSpied(t, p)
		current().reject = true
		if n := w.refuse(5, ErrThrottled); n != 5 || current().asked != 5 {
			t.Fatalf("rejected %d calls, asked for %d", n, current().asked)
		}
		p.Algorithm, p.Mode = "spy", Off
		w.SetPolicy(p)
		w.call(3, true, 0)
		p.Mode = Enforce
		w.SetPolicy(p)
		if s := current(); s.asked != 5 || len(s.observed) != 0 || !s.reject {
			t.Errorf("off: %+v", s)
		}
		w.Force(events.Closed, 0, "")
		current().reject = true
		w.call(3, true, 0)
		if s := current(); s.asked != 0 || len(s.observed) != 0 {
			t.Errorf("forced closed: %+v", s)
		}
		w.Force(events.HalfOpen, 0, "")
		current().reject = true
		probe := w.allow()
		if _, err := w.Allow(); err != ErrHalfOpenLimit || current().asked != 0 {
			t.Errorf("half-open: %v, asked for %d calls", err, current().asked)
		}
		probe.Success(0)
		w.want(events.Closed)
		if n := w.refuse(1, ErrThrottled); n != 1 {
			t.Error("the same algorithm does not decide after the half-open state")
		}
	})
}
