// Package simulate runs recorded calls through the circuit breaker, at the times that they had, to tell what other thresholds would have
// done. The breaker is that of the proxy, with a clock of its own: the same calls always have the same result.
package simulate

import (
	"container/heap"
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
	if policy.Mode == breaker.Shadow {
		policy.Mode = breaker.Enforce
	}
	policy.ActiveProbing, policy.RecoveryBackoff.Jitter = false, 0
	s := &simulation{result: &Result{Transitions: []Transition{}}}
	if len(calls) == 0 {
		return s.result
	}
	s.clock.now = calls[0].time()
	env := breaker.Environment{Clock: &s.clock, Random: seededRandom(service)}
	s.breaker = breaker.NewIn(env, service, policy, s.handleEvent)
	defer s.breaker.Close()
	for i := range calls {
		at := calls[i].time()
		s.reportUntil(at)
		s.clock.advance(at)
		s.ask(&calls[i])
	}
	for len(s.pending) > 0 {
		s.reportUntil(s.pending[0].at)
	}
	if !s.openSince.IsZero() {
		s.open += s.clock.now.Sub(s.openSince)
	}
	s.result.OpenSeconds = s.open.Seconds()
	return s.result
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
	pending   reports // of the calls in flight
	asked     int
	result    *Result
	open      time.Duration // for which the breaker was open, without the current opening
	openSince time.Time     // zero while the breaker is not open
}

// ask asks the breaker for a call. If it is admitted, its result is reported when it had ended.
func (s *simulation) ask(c *Call) {
	s.asked++
	call, err := s.breaker.Allow()
	switch {
	case err != nil:
		s.result.Refused++
		if c.outcome() == events.ResultSuccess {
			s.result.RefusedGood++
		}
		return
	case c.outcome() == events.ResultRejected:
		s.result.unknown++
		call.Withdraw()
		return
	case c.outcome() == events.ResultFailure:
		s.result.FailuresPassed++
	}
	heap.Push(&s.pending, report{at: c.end(), number: s.asked, call: call, record: c})
}

// reportUntil reports the results of the calls that had ended until a time.
func (s *simulation) reportUntil(at time.Time) {
	for len(s.pending) > 0 && !s.pending[0].at.After(at) {
		r := heap.Pop(&s.pending).(report)
		s.clock.advance(r.at)
		switch c := r.record; c.outcome() {
		case events.ResultSuccess:
			r.call.Success(c.duration())
		case events.ResultFailure:
			r.call.Failure(&events.Failure{Time: r.at, Type: c.errorType()}, c.duration())
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
	at     time.Time // when the call had ended
	number int       // orders those of the same time
	call   breaker.Call
	record *Call
}

// reports are a heap of reports by their time.
type reports []report

func (r reports) Len() int { return len(r) }
func (r reports) Less(i, j int) bool {
	if r[i].at.Equal(r[j].at) {
		return r[i].number < r[j].number
	}
	return r[i].at.Before(r[j].at)
}
func (r reports) Swap(i, j int) { r[i], r[j] = r[j], r[i] }
func (r *reports) Push(x any)   { *r = append(*r, x.(report)) }
func (r *reports) Pop() any {
	last := (*r)[len(*r)-1]
	*r = (*r)[:len(*r)-1]
	return last
}
