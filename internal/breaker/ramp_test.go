package breaker

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

const ramp = 100 * time.Second

func rampPolicy() Policy {
	return Policy{FailMax: 3, RecoveryTimeout: time.Minute, HalfOpenRequests: 1, RecoveryRamp: ramp}
}

// wantAdmitted fails the test if the share of admitted calls is not about want, or the status has another one. The calls count for
// nothing.
func (w *testBreaker) wantAdmitted(want float64) {
	w.t.Helper()
	const calls = 10_000 // a standard deviation of at most 0.005
	got := 1 - float64(w.refuse(calls, ErrRecovering))/calls
	if math.Abs(got-want) > 0.04 || (want == 1) != (got == 1) {
		w.t.Errorf("admits %v of the calls, want %v", got, want)
	}
	if status := w.Status(); math.Abs(status.AdmittedRatio-want) > 1e-6 {
		w.t.Errorf("the status has an admitted ratio of %v, want %v", status.AdmittedRatio, want)
	}
}

// open opens the breaker by failures.
func (w *testBreaker) open() {
	w.t.Helper()
	for w.State() == events.Closed {
		if call, err := w.Allow(); err == nil {
			call.Failure(&events.Failure{Type: events.ErrorReset}, 0)
		}
	}
	w.want(events.Open)
}

func TestRampAdmitsAGrowingShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestBreaker(t, rampPolicy())
		w.wantAdmitted(1) // not at the start
		w.open()
		if got := w.Status().AdmittedRatio; got != 1 {
			t.Errorf("open: an admitted ratio of %v", got)
		}
		w.recover()
		began := w.Status().Since
		for _, step := range []struct {
			elapsed time.Duration
			want    float64
		}{{0, 0.1}, {ramp / 20, 0.1}, {ramp / 10, 0.1}, {ramp / 4, 0.25}, {ramp / 2, 0.5}, {ramp * 9 / 10, 0.9}, {ramp, 1}, {24 * time.Hour, 1}} {
			time.Sleep(time.Until(began.Add(step.elapsed)))
			w.wantAdmitted(step.want)
		}
		w.want(events.Closed)
		if n := w.Status().ShadowRejections; n != (events.ShadowRejections{}) {
			t.Errorf("counted %+v", n)
		}
	})
}

func TestRampBeginsWhenTheBreakerCloses(t *testing.T) {
	failed := func(w *testBreaker) { w.open() }
	tests := []struct {
		name   string
		change func(w *testBreaker)
		want   float64
	}{
		{"probes succeeded", func(w *testBreaker) { failed(w); w.recover() }, 0.1},
		{"probes of a forced half-open state", func(w *testBreaker) { w.Force(events.HalfOpen, 0, ""); w.call(1, true, 0) }, 0.1},
		{"the fleet closed an open breaker", func(w *testBreaker) {
			failed(w)
			w.SetState(StateOverride{State: events.Closed, Cause: events.CauseFleet})
		}, 0.1},
		{"the fleet closed it a while ago", func(w *testBreaker) {
			failed(w)
			w.SetState(StateOverride{State: events.Closed, Since: time.Now().Add(-ramp / 2), Cause: events.CauseFleet})
		}, 0.5},
		{"the fleet closed a half-open breaker", func(w *testBreaker) {
			w.Force(events.HalfOpen, 0, "")
			w.SetState(StateOverride{State: events.Closed, Cause: events.CauseFleet})
		}, 0.1},
		{"restored closed", func(w *testBreaker) {
			w.SetState(StateOverride{State: events.Closed, ConsecutiveOpenings: 2, Cause: events.CauseRestored})
		}, 1},
		{"restored open", func(w *testBreaker) {
			w.SetState(StateOverride{State: events.Open, Duration: time.Second, Cause: events.CauseRestored})
			w.recover()
		}, 0.1},
		{"forced closed while open", func(w *testBreaker) { failed(w); w.Force(events.Closed, 0, "") }, 1},
		{"forced closed during the ramp", func(w *testBreaker) { failed(w); w.recover(); w.Force(events.Closed, 0, "") }, 1},
		{"released", func(w *testBreaker) { failed(w); w.Force(events.Closed, 0, ""); w.Release("") }, 1},
		{"forced closed until its end", func(w *testBreaker) {
			failed(w)
			w.Force(events.Closed, time.Second, "")
			time.Sleep(2 * time.Second)
			synctest.Wait()
		}, 1},
		{"closed again during the ramp", func(w *testBreaker) {
			failed(w)
			w.recover()
			time.Sleep(ramp / 2)
			w.SetState(StateOverride{State: events.Closed, Cause: events.CauseFleet})
		}, 0.5},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTestBreaker(t, rampPolicy())
				time.Sleep(time.Hour) // the process has run for longer than the ramp
				test.change(w)
				w.want(events.Closed)
				w.wantAdmitted(test.want)
			})
		})
	}
}

func TestBreakerOpensDuringTheRamp(t *testing.T) {
	tests := map[events.Cause]func(*Policy){
		events.CauseConsecutiveFailures: func(*Policy) {},
		events.CauseFailureRatio: func(p *Policy) {
			p.FailMax, p.FailureRatio, p.MinRequests, p.Window = 0, 0.5, 3, time.Minute
		},
		events.CauseBurnRate: func(p *Policy) {
			p.FailMax, p.MinRequests = 0, 3
			p.Algorithm, p.Options = "budget", budgetPolicy().Options
		},
	}
	for cause, change := range tests {
		t.Run(string(cause), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := rampPolicy()
				change(&p)
				w := newTestBreaker(t, p)
				w.SetState(StateOverride{State: events.HalfOpen})
				w.call(1, true, 0)
				admitted := 0
				for w.State() == events.Closed {
					if call, err := w.Allow(); err == nil {
						admitted++
						call.Failure(&events.Failure{Type: events.ErrorReset}, 0)
					} else if err != ErrRecovering {
						t.Fatal(err)
					}
				}
				if c := w.change.Load(); c.To != events.Open || c.Cause != cause || admitted != 3 {
					t.Errorf("%v by %s after %d calls, want 3", c.To, c.Cause, admitted)
				}
				time.Sleep(ramp / 2)
				w.recover()
				w.wantAdmitted(0.1) // from the beginning
			})
		})
	}
}

func TestReloadDuringTheRamp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := rampPolicy()
		w := newTestBreaker(t, p)
		set := func(d time.Duration) {
			p.RecoveryRamp = d
			w.SetPolicy(p)
		}
		w.open()
		w.recover()
		time.Sleep(ramp / 4)
		w.wantAdmitted(0.25)
		set(ramp / 2)
		w.wantAdmitted(0.5)
		set(2 * ramp)
		w.wantAdmitted(0.125)
		set(ramp / 4)
		w.wantAdmitted(1)
		set(0)
		w.wantAdmitted(1)
		set(ramp)
		w.wantAdmitted(0.25) // the recovery began at the same time as before
		p.Algorithm, p.Options = "count", &algorithm.CountOptions{Calls: 10}
		p.FailureRatio = 1
		w.SetPolicy(p)
		w.wantAdmitted(0.25)
		p.Mode = Off
		w.SetPolicy(p)
		w.wantAdmitted(1)
		p.Mode = Enforce
		w.SetPolicy(p)
		w.wantAdmitted(0.25)
	})
}

// A ramp that is configured after the breaker has closed applies to the time that is left.
func TestReloadAddsARamp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := rampPolicy()
		p.RecoveryRamp = 0
		w := newTestBreaker(t, p)
		w.SetPolicy(rampPolicy())
		w.wantAdmitted(1) // it was never open
		w.SetPolicy(p)
		w.open()
		w.recover()
		w.wantAdmitted(1)
		time.Sleep(ramp / 2)
		w.SetPolicy(rampPolicy())
		w.wantAdmitted(0.5)
		time.Sleep(ramp / 2)
		w.wantAdmitted(1)
	})
}

func TestShadowCountsRecoveringCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := rampPolicy()
		p.Mode, p.FailMax = Shadow, 1
		w := newTestBreaker(t, p)
		w.open()
		w.recover()
		shadowed := uint64(0)
		for w.State() == events.Closed {
			call, err := w.Allow()
			if err != nil || call.State != events.Closed {
				t.Fatalf("%+v, %v", call, err)
			}
			if n := w.Status().ShadowRejections; n.Recovering > shadowed {
				shadowed = n.Recovering
				call.Failure(&events.Failure{Type: events.ErrorReset}, 0)
				w.want(events.Closed) // the result has no effect
			} else if shadowed >= 5 {
				call.Failure(&events.Failure{Type: events.ErrorReset}, 0)
				w.want(events.Open)
			} else {
				call.Cancel()
			}
		}
		if n := w.Status().ShadowRejections; n != (events.ShadowRejections{Recovering: shadowed}) {
			t.Errorf("counted %+v", n)
		}
	})
}

// Active probes are not part of the share.
func TestRampAdmitsActiveProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestBreaker(t, rampPolicy())
		w.open()
		w.recover()
		for range 1000 {
			call, err := w.AllowActiveProbe()
			if err != nil {
				t.Fatal(err)
			}
			call.Cancel()
		}
	})
}
