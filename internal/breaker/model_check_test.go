package breaker

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
)

// randomPolicies generates policies whose limits are low enough to be reached.
var randomPolicies = rapid.Custom(func(t *rapid.T) Policy {
	seconds := func(low, high int, name string) time.Duration {
		return time.Duration(rapid.IntRange(low, high).Draw(t, name)) * time.Second
	}
	p := Policy{
		Limits: algorithm.Limits{
			FailureRatio:     rapid.SampledFrom([]float64{0, 0, 0.3, 0.5, 1}).Draw(t, "failure_ratio"),
			SlowCallRatio:    rapid.SampledFrom([]float64{0, 0, 0.4, 0.5, 1}).Draw(t, "slow_call_ratio"),
			SlowCallDuration: seconds(1, 2, "slow_call_duration"), MinRequests: rapid.IntRange(0, 5).Draw(t, "min_requests"),
			Window: seconds(1, 6, "window"),
		},
		Mode:            rapid.SampledFrom([]Mode{Enforce, Enforce, Enforce, Shadow, Off}).Draw(t, "mode"),
		FailMax:         rapid.SampledFrom([]int{0, 0, 1, 2, 3}).Draw(t, "fail_max"),
		RecoveryTimeout: seconds(1, 5, "recovery"),
		RecoveryBackoff: Backoff{
			Multiplier: rapid.SampledFrom([]float64{0, 1, 1.5, 2, 1e300}).Draw(t, "multiplier"),
			Max:        seconds(0, 20, "max"),
		},
		HalfOpenRequests: rapid.IntRange(1, 3).Draw(t, "probes"),
		ActiveProbing:    rapid.SampledFrom([]bool{false, false, true}).Draw(t, "active_probing"),
		RetryAfter:       rapid.SampledFrom([]int{0, 1, 1, 2, 3}).Draw(t, "retry_after"), RetryAfterMax: seconds(1, 8, "retry_after_max"),
	}
	if calls := rapid.IntRange(-4, 8).Draw(t, "calls"); calls > 0 {
		p.Algorithm, p.Options = "count", &algorithm.CountOptions{Calls: calls}
	}
	return p
})

// recorder records the transitions that a breaker publishes, in the format of the model.
type recorder struct {
	mu      sync.Mutex // the breaker's timer publishes too
	changes []string
}

func (s *recorder) publish(e events.Event) {
	c, ok := e.(events.StateChanged)
	if !ok {
		return
	}
	cause := string(c.Cause)
	if n := c.Counts; c.Cause == events.CauseFailureRatio || c.Cause == events.CauseSlowCallRatio {
		cause += fmt.Sprint(n.Requests, n.Successes, n.Failures, n.Slow, n.ConsecutiveFailures)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes = append(s.changes, fmt.Sprint(c.From, ">", c.To, " ", cause, " ", c.Time.UnixNano()))
}

// pending is a call that has not been reported yet.
type pending struct {
	call  Call
	epoch int // of the model; -1 if the report has no effect
}

// pair is a breaker and its model, on which the same operations are performed.
type pair struct {
	*model
	b        *Breaker
	recorder recorder
	calls    []pending
}

func newPair(policy Policy) *pair {
	p := &pair{model: &model{policy: policy, since: time.Now()}}
	p.b = New("svc", policy, p.recorder.publish)
	return p
}

// keep stores a call for a later report. counts is whether the report has an effect.
func (p *pair) keep(call Call, counts bool) {
	epoch := p.epoch
	if !counts {
		epoch = -1
	}
	p.calls = append(p.calls, pending{call, epoch})
}

func (p *pair) allowBoth(t *rapid.T) {
	want, counts := p.allow()
	call, err := p.b.Allow()
	if err != want {
		t.Fatalf("Allow: %v; the model has %v", err, want)
	}
	if call.State != p.state {
		t.Fatalf("call decided in state %v, the model is in %v", call.State, p.state)
	}
	p.keep(call, counts)
}

func (p *pair) probeBoth(t *rapid.T) {
	want, counts := p.allowProbe()
	call, err := p.b.AllowActiveProbe()
	if err != want || call.State != p.state {
		t.Fatalf("AllowActiveProbe: %+v, %v; the model has %v, %v", call, err, p.state, want)
	}
	p.keep(call, counts)
}

func (p *pair) reportBoth(t *rapid.T, result string) {
	if len(p.calls) == 0 {
		t.Skip("no call")
	}
	i := rapid.IntRange(0, len(p.calls)-1).Draw(t, "call")
	took := time.Duration(rapid.IntRange(0, 2).Draw(t, "took")) * time.Second
	c := p.calls[i]
	p.calls = slices.Delete(p.calls, i, i+1)
	if result == "retry after" {
		d := time.Duration(rapid.IntRange(-1, 9).Draw(t, "d")) * time.Second
		p.retryAfter(c.epoch, d)
		c.call.RetryAfter(time.Now().Add(d))
		return
	}
	p.report(c.epoch, result, took)
	switch result {
	case "success":
		c.call.Success(took)
	case "failure":
		c.call.Failure(&events.Failure{Type: events.ErrorStatus}, took)
	default:
		c.call.Cancel()
	}
}

// compare fails the test if breaker and model differ.
func (p *pair) compare(t *rapid.T) {
	p.advance()
	status := p.b.Status()
	if status.State != p.state || p.b.State() != p.state {
		t.Fatalf("state %v, the model has %v", status.State, p.state)
	}
	if (status.Forced != nil) != p.forced {
		t.Fatalf("forced %+v, the model has %v", status.Forced, p.forced)
	}
	if p.state == events.Open && !status.RetryAt.Equal(p.until) {
		t.Fatalf("open until %v, the model has %v", status.RetryAt, p.until)
	}
	if p.state == events.Closed && status.ConsecutiveFailures != p.consecutiveFailures {
		t.Fatalf("%d consecutive failures, the model has %d", status.ConsecutiveFailures, p.consecutiveFailures)
	}
	openings := p.consecutiveOpenings
	if p.recovered() {
		openings = 0
	}
	if status.ConsecutiveOpenings != openings {
		t.Fatalf("%d consecutive openings, the model has %d", status.ConsecutiveOpenings, openings)
	}
	if n := p.b.Status().ShadowRejections; n.Open != p.shadowed[events.Open] || n.HalfOpenLimit != p.shadowed[events.HalfOpen] {
		t.Fatalf("shadow rejections %+v, the model has %v", n, p.shadowed)
	}
	p.recorder.mu.Lock()
	defer p.recorder.mu.Unlock()
	if !slices.Equal(p.recorder.changes, p.changes) {
		t.Fatalf("changes\n%v\nthe model has\n%v", p.recorder.changes, p.changes)
	}
}

func TestBreakerMatchesModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ rapid.TB }{t}, func(t *rapid.T) {
			p := newPair(randomPolicies.Draw(t, "policy"))
			defer p.b.Close()
			call := func(result string) func(*rapid.T) {
				return func(t *rapid.T) {
					p.allowBoth(t)
					p.reportBoth(t, result)
				}
			}
			t.Repeat(map[string]func(*rapid.T){
				"allow":   p.allowBoth,
				"probe":   p.probeBoth,
				"success": func(t *rapid.T) { p.reportBoth(t, "success") },
				"failure": func(t *rapid.T) { p.reportBoth(t, "failure") },
				"cancel":  func(t *rapid.T) { p.reportBoth(t, "cancel") },
				"after":   func(t *rapid.T) { p.reportBoth(t, "retry after") },
				// An admission with its report, so that windows fill.
				"succeed": call("success"),
				"fail":    call("failure"),
				"wait": func(t *rapid.T) {
					// Not a multiple of a second, so that nothing happens in the nanoseconds that it takes to
					// end an opening; and longer than a slot, so that the window is exact.
					ms := time.Duration(rapid.IntRange(100, 3000).Draw(t, "ms"))
					time.Sleep(ms*time.Millisecond + 137*time.Microsecond)
					synctest.Wait()
				},
				"policy": func(t *rapid.T) {
					policy := randomPolicies.Draw(t, "policy")
					p.setPolicy(policy)
					p.b.SetPolicy(policy)
					time.Sleep(3 * time.Nanosecond) // if this has ended the opening, the timer fires first
				},
				"force": func(t *rapid.T) {
					state := rapid.SampledFrom(events.States[:]).Draw(t, "state")
					d := time.Duration(rapid.IntRange(0, 3).Draw(t, "seconds")) * time.Second
					p.b.Force(state, d, "") // before the model, because constructing a half-open engine takes 2 ns
					p.force(state, d)
				},
				"release": func(t *rapid.T) { p.b.Release(""); p.model.release() },
				"":        p.compare,
			})
		})
	})
}
