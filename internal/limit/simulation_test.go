package limit

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// limiter is what a simulated proxy uses: an AIMD or, for comparison, another rule.
type limiter interface {
	Limit() int64
	Answered(took time.Duration, now time.Time, inFlight int64)
	Overloaded(start, now time.Time)
}

// fixed is a limit that does not change.
type fixed int64

func (f fixed) Limit() int64                           { return int64(f) }
func (fixed) Answered(time.Duration, time.Time, int64) {}
func (fixed) Overloaded(_, _ time.Time)                {}

// plain is additive increase and multiplicative decrease without regard of response times and of what was before.
type plain struct {
	limit  float64
	shrunk time.Time
	growth func(limit float64) float64 // by an answer
	each   bool                        // each call that meets an overload shrinks the limit
}

func perAnswer(float64) float64      { return 1 }
func perLimit(limit float64) float64 { return 1 / limit }

func (p *plain) Limit() int64 { return int64(p.limit) }

func (p *plain) Answered(_ time.Duration, _ time.Time, inFlight int64) {
	if 2*inFlight > int64(p.limit) {
		p.limit = min(p.limit+p.growth(p.limit), AIMDMax)
	}
}

func (p *plain) Overloaded(start, now time.Time) {
	if p.each || !start.Before(p.shrunk) {
		p.limit, p.shrunk = max(p.limit*shrinkFactor, AIMDMin), now
	}
}

// simulation is an upstream and the proxies that call it, in simulated time.
type simulation struct {
	upstream
	random *rand.Rand
	now    time.Duration
	events eventQueue
	added  int // events

	busy    int
	waiting []*simulatedCall
}

// upstream is a server with workers and a queue, which does not notice that a caller has given up.
type upstream struct {
	workers func(now time.Duration) int
	queue   int           // calls that may wait; the others are rejected after a millisecond
	service time.Duration // average time of a call
	spread  float64       // standard deviation of the logarithm of that time
	hangs   float64       // share of calls that are never answered, for no fault of the load
	timeout time.Duration // of the callers
}

// caller is a proxy.
type caller struct {
	limiter  limiter
	rate     func(now time.Duration) float64 // calls per second, with exponential intervals
	inFlight int64

	asked, shed, good, rejected, timedOut int
	latency                               time.Duration // of all good calls
	late                                  int           // good calls in the last quarter
	least, most                           int64         // limits in the last quarter
}

type simulatedCall struct {
	caller *caller
	start  time.Duration
	ended  bool
}

// event is something that happens at a time of the simulation; number makes the order definite.
type event struct {
	at     time.Duration
	number int
	do     func()
}

type eventQueue []event

func (q eventQueue) Len() int      { return len(q) }
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(e any)   { *q = append(*q, e.(event)) }
func (q eventQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].number < q[j].number
}
func (q *eventQueue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

func (s *simulation) after(d time.Duration, do func()) {
	s.added++
	heap.Push(&s.events, event{s.now + d, s.added, do})
}

// run lets the callers call the upstream for d.
func (s *simulation) run(d time.Duration, callers []*caller) {
	for _, c := range callers {
		s.arrive(c)
		s.after(d*3/4, func() {
			c.late, c.least, c.most = c.good, math.MaxInt64, 0
			s.watch(c)
		})
	}
	for s.events[0].at <= d {
		e := heap.Pop(&s.events).(event)
		s.now = e.at
		e.do()
	}
	for _, c := range callers {
		c.late = c.good - c.late
	}
}

func (s *simulation) watch(c *caller) {
	n := c.limiter.Limit()
	c.least, c.most = min(c.least, n), max(c.most, n)
	s.after(time.Second, func() { s.watch(c) })
}

// arrive makes the caller's next call.
func (s *simulation) arrive(c *caller) {
	rate := c.rate(s.now)
	if rate == 0 {
		s.after(100*time.Millisecond, func() { s.arrive(c) })
		return
	}
	s.after(time.Duration(s.random.ExpFloat64()/rate*float64(time.Second)), func() {
		s.call(c)
		s.arrive(c)
	})
}

func (s *simulation) call(c *caller) {
	c.asked++
	if c.inFlight >= c.limiter.Limit() {
		c.shed++
		return
	}
	c.inFlight++
	call := &simulatedCall{caller: c, start: s.now}
	s.after(s.timeout, func() { s.fail(call, &c.timedOut) })
	switch {
	case s.random.Float64() < s.hangs:
	case s.busy < s.workers(s.now):
		s.work(call)
	case len(s.waiting) < s.queue:
		s.waiting = append(s.waiting, call)
	default:
		s.after(time.Millisecond, func() { s.fail(call, &c.rejected) })
	}
}

// work occupies a worker, also for a call that has timed out.
func (s *simulation) work(call *simulatedCall) {
	s.busy++
	factor := math.Exp(s.random.NormFloat64()*s.spread - s.spread*s.spread/2)
	s.after(time.Duration(float64(s.service)*factor), func() {
		s.busy--
		for len(s.waiting) > 0 && s.busy < s.workers(s.now) {
			next := s.waiting[0]
			s.waiting = s.waiting[1:]
			s.work(next)
		}
		if call.ended {
			return
		}
		c := call.caller
		c.good++
		c.latency += s.now - call.start
		c.limiter.Answered(s.now-call.start, simulatedTime(s.now), c.inFlight)
		call.ended = true
		c.inFlight--
	})
}

// fail ends a call that meets an overload, and counts it.
func (s *simulation) fail(call *simulatedCall, count *int) {
	if !call.ended {
		*count++
		call.caller.limiter.Overloaded(simulatedTime(call.start), simulatedTime(s.now))
		call.ended = true
		call.caller.inFlight--
	}
}

func simulatedTime(d time.Duration) time.Time { return time.Unix(1e9, 0).Add(d) }

func always[T any](v T) func(time.Duration) T { return func(time.Duration) T { return v } }

// during returns a function that is in during a part of the simulation, in seconds, and out otherwise.
func during[T any](from, to int, in, out T) func(time.Duration) T {
	return func(now time.Duration) T {
		if second := int(now / time.Second); second >= from && second < to {
			return in
		}
		return out
	}
}

const unlimited = 1 << 30

// rejecting is an upstream with workers and no queue.
func rejecting(workers func(time.Duration) int) upstream {
	return upstream{workers: workers, service: 100 * time.Millisecond, spread: 0.5, timeout: 5 * time.Second}
}

// queueing is an upstream with workers and a long queue.
func queueing(workers int) upstream {
	return upstream{workers: always(workers), queue: unlimited, service: 200 * time.Millisecond, spread: 0.5, timeout: 2 * time.Second}
}

// unbounded is an upstream that answers any number of calls, with very different times, but for a share of them.
func unbounded(hangs float64) upstream {
	return upstream{workers: always(unlimited), service: 200 * time.Millisecond, spread: 1, hangs: hangs, timeout: 5 * time.Second}
}

type rate = func(time.Duration) float64

// scenarios are the models by which the rule of AIMD was chosen. Each is compared with the best fixed limit.
var scenarios = []struct {
	name     string
	upstream upstream
	rates    []rate // of the callers
	minutes  int
	best     fixed
	// share is the least share of the good calls that the best fixed limit has, and failed the largest share of calls that the upstream
	// rejects or does not answer in time.
	share, failed float64
}{
	{"20 workers reject", rejecting(always(20)), []rate{always(300.)}, 3, 20, 0.96, 0.03},
	{"100 workers reject", rejecting(always(100)), []rate{always(1500.)}, 2, 100, 0.90, 0.01},
	{"others take half of 40 workers", rejecting(during(60, 120, 20, 40)), []rate{always(600.)}, 3, 40, 0.93, 0.01},
	{"60 workers, an outage", rejecting(during(60, 90, 0, 60)), []rate{always(400.)}, 3, 60, 0.98, 0.18},
	{"60 workers, three callers", rejecting(always(60)), []rate{always(400.), during(30, unlimited, 400., 0.), during(60, unlimited, 400., 0.)}, 4, 20, 0.96, 0.02},
	{"10 workers queue", queueing(10), []rate{always(75.)}, 4, 20, 0.98, 0.01},
	{"10 workers queue, a surge", queueing(10), []rate{during(60, 180, 150., 30.)}, 4, 20, 0.98, 0.01},
	{"30 workers queue, three callers", queueing(30), []rate{always(150.), during(60, unlimited, 150., 0.), during(120, unlimited, 150., 0.)}, 8, 20, 0.98, 0.01},
	{"2 slow workers queue", upstream{workers: always(2), queue: unlimited, service: 2 * time.Second, spread: 0.3, timeout: 15 * time.Second}, []rate{always(2.)}, 30, 6, 0.6, 0.2},
	{"2 slow workers queue, a surge", upstream{workers: always(2), queue: unlimited, service: 2 * time.Second, spread: 0.3, timeout: 15 * time.Second}, []rate{during(20, 80, 2., 0.75)}, 5, 6, 0.9, 0.05},
	{"no bound", unbounded(0), []rate{always(500.)}, 2, 200, 0.99, 0.001},
	{"no bound, 0.1 % hang", unbounded(0.001), []rate{always(500.)}, 2, 200, 0.98, 0.002},
	{"no bound, 1 % hang", unbounded(0.01), []rate{always(250.)}, 2, 200, 0.96, 0.012},
	{"no bound, a burst after idleness", unbounded(0), []rate{during(120, 180, 500., 5.)}, 3, 200, 0.99, 0.001},
}

// simulate returns the callers of a scenario, which have the limiters that newLimiter returns.
func simulate(scenario int, newLimiter func() limiter) []*caller {
	sc := &scenarios[scenario]
	var callers []*caller
	for _, r := range sc.rates {
		callers = append(callers, &caller{limiter: newLimiter(), rate: r})
	}
	s := simulation{upstream: sc.upstream, random: rand.New(rand.NewPCG(1, 2))}
	s.run(time.Duration(sc.minutes)*time.Minute, callers)
	return callers
}

// totals adds up what callers got.
func totals(callers []*caller) (sum caller) {
	for _, c := range callers {
		sum.asked, sum.shed, sum.good = sum.asked+c.asked, sum.shed+c.shed, sum.good+c.good
		sum.rejected, sum.timedOut, sum.latency = sum.rejected+c.rejected, sum.timedOut+c.timedOut, sum.latency+c.latency
	}
	return sum
}

// fairness returns Jain's index of the good calls of the last quarter: 1 if all callers have as many.
func fairness(callers []*caller) float64 {
	var sum, squares float64
	for _, c := range callers {
		sum, squares = sum+float64(c.late), squares+float64(c.late)*float64(c.late)
	}
	return sum * sum / squares / float64(len(callers))
}

// In all scenarios AIMD comes close to the best fixed limit, which it does not know.
func TestAIMDComesCloseToTheBestFixedLimit(t *testing.T) {
	for i, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			best, callers := totals(simulate(i, func() limiter { return sc.best })), simulate(i, func() limiter { return new(AIMD) })
			got := totals(callers)
			share := float64(got.good) / float64(best.good)
			failed := float64(got.rejected+got.timedOut) / float64(got.asked)
			t.Logf("good %.3f of the best, failed %.4f, fairness %.3f", share, failed, fairness(callers))
			for _, c := range callers {
				t.Logf("limit %d to %d", c.least, c.most)
			}
			if share < sc.share || failed > sc.failed || fairness(callers) < 0.95 {
				t.Errorf("want a share of %v, failed %v, fairness 0.95", sc.share, sc.failed)
			}
		})
	}
}

// BenchmarkRules compares the rule of AIMD with others in all scenarios: the share of calls that are good, that the upstream failed, the
// average latency of the good ones, and the fairness. It is meant for -benchtime 1x.
func BenchmarkRules(b *testing.B) {
	for i, sc := range scenarios {
		for _, rule := range []struct {
			name       string
			newLimiter func() limiter
		}{
			{"best fixed", func() limiter { return sc.best }},
			{"none", func() limiter { return fixed(unlimited) }},
			{"one an answer, shrinks for each call", func() limiter { return &plain{limit: AIMDInitial, growth: perAnswer, each: true} }},
			{"one an answer", func() limiter { return &plain{limit: AIMDInitial, growth: perAnswer} }},
			{"one a limit", func() limiter { return &plain{limit: AIMDInitial, growth: perLimit} }},
			{"AIMD", func() limiter { return new(AIMD) }},
		} {
			b.Run(sc.name+"/"+rule.name, func(b *testing.B) {
				for range b.N {
					callers := simulate(i, rule.newLimiter)
					sum := totals(callers)
					b.ReportMetric(0, "ns/op")
					b.ReportMetric(100*float64(sum.good)/float64(sum.asked), "%good")
					b.ReportMetric(100*float64(sum.rejected+sum.timedOut)/float64(sum.asked), "%failed")
					b.ReportMetric((sum.latency/time.Duration(max(sum.good, 1))).Seconds()*1000, "ms")
					b.ReportMetric(fairness(callers), "fairness")
				}
			})
		}
	}
}
