package breaker

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"cbproxy/internal/events"
)

// model is a circuit breaker as one would explain it: no engine, no lock, no clock of its
// own. Every method brings it up to now first.
type model struct {
	policy   Policy
	state    events.State
	opened   time.Time
	until    time.Time // zero: no end
	held     bool
	epoch    int // a call from another epoch counts for nothing
	failures int // in a row, while closed
	probes   int // allowed in this opening's half-open state
	admitted int
	passed   int
	changes  []string
}

func (m *model) to(state events.State, cause events.Cause, at time.Time) {
	m.epoch++
	m.failures, m.admitted, m.passed = 0, 0, 0
	if m.state != state {
		m.changes = append(m.changes, fmt.Sprint(m.state, ">", state, " ", cause, " ", at.UnixNano()))
	}
	m.state, m.held, m.until = state, false, time.Time{}
}

func (m *model) open(cause events.Cause, d time.Duration) {
	m.to(events.Open, cause, time.Now())
	m.opened, m.probes = time.Now(), m.policy.HalfOpenRequests
	m.until = m.opened.Add(d)
}

func (m *model) tick() {
	over := !m.until.IsZero() && time.Now().After(m.until)
	switch {
	case !over:
	case m.state == events.Open:
		cause := events.CauseRecoveryTimeout
		if m.held {
			cause = events.CauseHoldEnded
		}
		m.to(events.HalfOpen, cause, m.until.Add(time.Nanosecond))
	case m.held:
		m.to(events.Closed, events.CauseHoldEnded, m.until)
	}
}

func (m *model) allow() error {
	m.tick()
	switch {
	case m.state == events.Open:
		return ErrOpen
	case m.state == events.HalfOpen && m.admitted >= m.probes:
		return ErrHalfOpenLimit
	}
	m.admitted++
	return nil
}

func (m *model) report(epoch int, verdict string) {
	m.tick()
	if epoch != m.epoch {
		return
	}
	switch {
	case verdict == "cancel":
		m.admitted--
	case m.state == events.HalfOpen && verdict == "failure":
		m.open(events.CauseProbeFailed, m.policy.RecoveryTimeout)
	case m.state == events.HalfOpen:
		if m.passed++; m.passed == m.probes {
			m.to(events.Closed, events.CauseProbesSucceeded, time.Now())
		}
	case verdict == "success":
		m.failures = 0
	default:
		if m.failures++; !m.held && m.policy.FailMax > 0 && m.failures >= m.policy.FailMax {
			m.open(events.CauseConsecutiveFailures, m.policy.RecoveryTimeout)
		}
	}
}

func (m *model) setPolicy(p Policy) {
	m.tick()
	if m.state == events.Open {
		m.probes = p.HalfOpenRequests
		if !m.held && p.RecoveryTimeout != m.policy.RecoveryTimeout {
			m.until = m.opened.Add(p.RecoveryTimeout)
			if m.until.Before(time.Now()) { // over as soon as the clock moves
				m.until = time.Now().Add(time.Nanosecond)
			}
		}
	}
	m.policy = p
}

func (m *model) force(state events.State, d time.Duration) {
	m.tick()
	opened := m.opened
	again := m.state == events.Open && state == events.Open
	m.to(state, events.CauseForced, time.Now())
	m.opened, m.probes = time.Now(), m.policy.HalfOpenRequests
	if again {
		m.opened = opened
	}
	if state == events.HalfOpen {
		return
	}
	m.held = true
	if d > 0 {
		m.until = time.Now().Add(d)
	}
}

func (m *model) release() {
	m.tick()
	if !m.held {
		return
	}
	to := events.Closed
	if m.state == events.Open {
		to = events.HalfOpen
	}
	m.to(to, events.CauseReleased, time.Now())
	m.probes = m.policy.HalfOpenRequests
}

// pending is a call that was admitted by both and has not reported yet.
type pending struct {
	call  Call
	epoch int
}

func TestBreakerFollowsModelThroughRandomSequences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ rapid.TB }{t}, func(t *rapid.T) {
			policies := rapid.Custom(func(t *rapid.T) Policy {
				return Policy{
					FailMax:          rapid.IntRange(0, 3).Draw(t, "fail_max"),
					RecoveryTimeout:  time.Duration(rapid.IntRange(1, 5).Draw(t, "recovery")) * time.Second,
					HalfOpenRequests: rapid.IntRange(1, 3).Draw(t, "probes"),
				}
			})
			policy := policies.Draw(t, "policy")
			var mu sync.Mutex // the clock publishes too
			var changes []string
			b := New("svc", policy, func(e events.Event) {
				if c, ok := e.(events.StateChanged); ok {
					mu.Lock()
					defer mu.Unlock()
					changes = append(changes, fmt.Sprint(c.From, ">", c.To, " ", c.Cause, " ", c.Time.UnixNano()))
				}
			})
			defer b.Close()
			m := &model{policy: policy}
			var calls []pending

			report := func(t *rapid.T, verdict string) {
				if len(calls) == 0 {
					t.Skip("no call")
				}
				i := rapid.IntRange(0, len(calls)-1).Draw(t, "call")
				c := calls[i]
				calls = slices.Delete(calls, i, i+1)
				m.report(c.epoch, verdict)
				switch verdict {
				case "success":
					c.call.Success(0)
				case "failure":
					c.call.Failure(&events.Failure{Type: events.ErrorStatus}, 0)
				default:
					c.call.Cancel()
				}
			}
			t.Repeat(map[string]func(*rapid.T){
				"allow": func(t *rapid.T) {
					want := m.allow()
					call, err := b.Allow()
					if err != want {
						t.Fatalf("Allow: %v, the model says %v", err, want)
					}
					if call.State != m.state {
						t.Fatalf("call decided by %v, the model is %v", call.State, m.state)
					}
					if err == nil {
						calls = append(calls, pending{call, m.epoch})
					}
				},
				"success": func(t *rapid.T) { report(t, "success") },
				"failure": func(t *rapid.T) { report(t, "failure") },
				"cancel":  func(t *rapid.T) { report(t, "cancel") },
				"wait": func(t *rapid.T) {
					// Odd, so that nothing happens at the very nanosecond at which an opening ends.
					ms := time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms"))
					time.Sleep(ms*time.Millisecond + 137*time.Microsecond)
					synctest.Wait()
				},
				"policy": func(t *rapid.T) {
					p := policies.Draw(t, "policy")
					m.setPolicy(p)
					b.SetPolicy(p)
					time.Sleep(3 * time.Nanosecond) // an opening that this cut short ends before anything else
				},
				"force": func(t *rapid.T) {
					state := rapid.SampledFrom(events.States[:]).Draw(t, "state")
					d := time.Duration(rapid.IntRange(0, 3).Draw(t, "seconds")) * time.Second
					b.Force(state, d, "") // first, as a half-open engine takes 2 ns to be born
					m.force(state, d)
				},
				"release": func(t *rapid.T) { b.Release(""); m.release() },
				"": func(t *rapid.T) {
					m.tick()
					mu.Lock()
					defer mu.Unlock()
					status := b.Status()
					if status.State != m.state || b.State() != m.state {
						t.Fatalf("state %v, the model says %v", status.State, m.state)
					}
					if (status.Hold != nil) != m.held {
						t.Fatalf("hold %+v, the model says %v", status.Hold, m.held)
					}
					if m.state == events.Open && !status.RetryAt.Equal(m.until) {
						t.Fatalf("open until %v, the model says %v", status.RetryAt, m.until)
					}
					if m.state == events.Closed && status.ConsecutiveFailures != m.failures {
						t.Fatalf("%d failures in a row, the model says %d", status.ConsecutiveFailures, m.failures)
					}
					if !slices.Equal(changes, m.changes) {
						t.Fatalf("changes\n%v\nthe model says\n%v", changes, m.changes)
					}
				},
			})
		})
	})
}
