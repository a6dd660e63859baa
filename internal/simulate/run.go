// Package simulate runs recorded calls through the circuit breaker, at the times that they had, to tell what other thresholds would have
// done. The breaker is that of the proxy, with a clock of its own: the same calls always have the same result.
package simulate

import (
	"hash/fnv"
	"math/rand/v2"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
)

// Run returns what a breaker with a policy would have done with the calls of a service, which are in the order of their times. What the
// record does not tell is left out: retries and active probes, whose part the next calls take; the times that Retry-After fields named;
// and the decisions of other instances. There is no jitter.
func Run(service string, policy breaker.Policy, calls []Call) *Result {
	return RunEach(service, policy, calls, func(int, bool) {})
}

// RunEach is Run that also reports, in their order, whether the breaker admits the call with the index i.
func RunEach(service string, policy breaker.Policy, calls []Call, each func(i int, admitted bool)) *Result {
	r, _ := run(service, policy, calls, func(*Result) error { return nil }, each) // fails by the check only
	return r
}

// A Check is called between calls, about every 100 µs, with the result so far. A simulation ends with the error that it returns.
type Check func(*Result) error

// checkCalls is the number of calls from one Check to the next.
const checkCalls = 256

// RunChecked is Run that can be stopped.
func RunChecked(service string, policy breaker.Policy, calls []Call, check Check) (*Result, error) {
	return run(service, policy, calls, check, func(int, bool) {})
}

func run(service string, policy breaker.Policy, calls []Call, check Check, each func(i int, admitted bool)) (*Result, error) {
	if policy.Mode == breaker.Shadow {
		policy.Mode = breaker.Enforce
	}
	policy.ActiveProbing, policy.RecoveryBackoff.Jitter = false, 0
	s := &simulation{result: &Result{Transitions: []Transition{}}}
	if len(calls) == 0 {
		return s.result, nil
	}
	s.clock.now = calls[0].Time()
	env := breaker.Environment{Clock: &s.clock, Random: seededRandom(service)}
	s.breaker = breaker.NewIn(env, service, policy, s.handleEvent)
	defer s.breaker.Close()
	for i := range calls {
		if i%checkCalls == 0 {
			if err := check(s.result); err != nil {
				return nil, err
			}
		}
		s.reportUntil(calls[i].at)
		s.clock.advance(calls[i].Time())
		each(i, s.ask(&calls[i]))
	}
	for len(s.pending) > 0 {
		s.reportUntil(s.pending[0].at)
	}
	if !s.openSince.IsZero() {
		s.open += s.clock.now.Sub(s.openSince)
	}
	s.result.OpenSeconds = s.open.Seconds()
	return s.result, nil
}

// seededRandom returns random numbers that are the same in each run, and others for each service.
func seededRandom(service string) func() float64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(service))
	return rand.New(rand.NewPCG(1, h.Sum64())).Float64 // #nosec G404 -- the same each time
}

// simulation is the run of one breaker.
type simulation struct {
	clock     clock
	breaker   *breaker.Breaker
	pending   heap[report] // of the calls in flight
	asked     int
	result    *Result
	open      time.Duration // for which the breaker was open, without the current opening
	openSince time.Time     // zero while the breaker is not open
}

// ask asks the breaker for a call, and reports whether it is admitted. Its result is reported then when it had ended.
func (s *simulation) ask(c *Call) bool {
	s.asked++
	call, err := s.breaker.Allow()
	switch {
	case err != nil:
		s.result.Refused++
		if c.Result() == events.ResultSuccess {
			s.result.RefusedGood++
		}
		return false
	case c.Result() == events.ResultRejected:
		s.result.unknown++
		call.Withdraw()
		return true
	case c.Result() == events.ResultFailure:
		s.result.FailuresPassed++
	}
	s.pending.push(report{at: c.at + c.took, number: s.asked, call: call, record: c}, report.before)
	return true
}

// reportUntil reports the results of the calls that had ended until a time, in nanoseconds since 1970.
func (s *simulation) reportUntil(at int64) {
	for len(s.pending) > 0 && s.pending[0].at <= at {
		r := s.pending.pop(report.before)
		end := r.record.end()
		s.clock.advance(end)
		switch c := r.record; c.Result() {
		case events.ResultSuccess:
			r.call.Success(c.duration())
		case events.ResultFailure:
			r.call.Failure(&events.Failure{Time: end, Type: c.errorType()}, c.duration())
		default: // cancelled; one without a duration is not slow
			r.call.Abandon(c.duration())
		}
	}
}

// handleEvent records the transitions of the breaker.
func (s *simulation) handleEvent(e events.Event) {
	c, ok := e.(events.StateChanged)
	if !ok {
		return
	}
	r := s.result
	r.Transitions = append(r.Transitions, Transition{c.Time.UTC(), c.From, c.To, c.Cause})
	if c.From == events.Open {
		s.open += c.Time.Sub(s.openSince)
		s.openSince = time.Time{}
	}
	if c.To == events.Open {
		if r.Openings++; r.Openings == 1 {
			first := c.Time.UTC()
			r.FirstOpening = &first
		}
		s.openSince = c.Time
	}
}

// report is the result of a call in flight.
type report struct {
	at     int64 // when the call had ended, in nanoseconds since 1970
	number int   // orders those of the same time
	call   breaker.Call
	record *Call
}

// before orders reports by their time.
func (r report) before(other report) bool {
	if r.at == other.at {
		return r.number < other.number
	}
	return r.at < other.at
}
