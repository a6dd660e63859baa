package adaptive

import (
	"math/rand/v2"
	"time"

	"github.com/DataDog/sketches-go/ddsketch"
)

const (
	// learntHours is the number of past periods whose durations count.
	learntHours = 24
	// allSampled is the number of calls in a period up to which the duration of each one is learnt. Of n calls, then about one in
	// n / allSampled is, so that a high rate costs less.
	allSampled = 1000
)

// Latency has quantiles of the durations of successful calls of a healthy service, in seconds.
type Latency struct{ P50, P95, P99 float64 }

// durations learns how long the successful calls of a healthy service take, and from when on a call is slow: a quantile sketch for each
// of the past periods with calls, and one for the current period.
type durations struct {
	hours
	slowCall SlowCall

	past    []bins             // of the last periods, the oldest one first; at most learntHours
	ofPast  *ddsketch.DDSketch // the sum of past
	current *ddsketch.DDSketch
	sum     *ddsketch.DDSketch // the memory of update

	weight uint64 // the number of calls for which the next sample stands
	random *rand.PCG

	// latency and value are as of the last update. value is the duration from which on a call is slow, before that at the start of the
	// current period; both are 0 if they are not used.
	latency       Latency
	warm          bool
	value, before time.Duration
	until         uint64 // the number of calls of the current period at which the next update is due
}

func newDurations(s SlowCall) durations {
	d := durations{ofPast: newSketch(), current: newSketch(), sum: newSketch(), weight: 1, random: rand.NewPCG(1, 0)}
	d.slowCall, d.value, d.before = s, s.Default, s.Default
	return d
}

// setSlowCall applies other options, or o, which have changed.
func (d *durations) setSlowCall(o *Options, now time.Duration, s SlowCall) {
	if d.slowCall.Auto() != s.Auto() {
		d.before = s.Default
	}
	d.slowCall = s
	d.update(o, now)
}

// learn counts calls of a healthy service.
func (d *durations) learn(o *Options, now time.Duration, calls, failures uint64) {
	if d.over(now) {
		d.endPeriod(o, now)
	}
	d.count(now, calls, failures)
}

// add adds the duration of a call that learn has counted. It returns the number of calls whose durations are not needed before the next
// one.
func (d *durations) add(o *Options, now, took time.Duration) (skip int) {
	_ = d.current.AddWithCount(took.Seconds(), float64(d.weight)) // fails for other numbers only
	if d.newCalls >= d.until || !d.warm && d.isWarm(o, now) {
		d.update(o, now)
	}
	if d.weight = 1 + d.newCalls/allSampled; d.weight == 1 {
		return 0
	}
	return int(d.random.Uint64() % (2*d.weight - 1)) // #nosec G115 -- less than twice the weight; weight-1 on average
}

// endPeriod makes the current period a past one, unless it has so many failures that the service was not healthy.
func (d *durations) endPeriod(o *Options, now time.Duration) {
	if d.isHealthy(o) && !d.current.IsEmpty() {
		d.setPast(append(d.past, binsOf(d.current)))
	}
	d.current.Clear()
	d.next(o, now)
	d.weight = 1
	d.update(o, now)
	d.before = d.value
}

// setPast sets the past periods to the last ones of all.
func (d *durations) setPast(all []bins) {
	d.past = append([]bins(nil), all[max(0, len(all)-learntHours):]...)
	d.ofPast.Clear()
	for _, hour := range d.past {
		hour.addTo(d.ofPast)
	}
}

// update computes the quantiles, and from when on a call is slow. It is done after a share of the calls only, because it takes about a
// microsecond.
func (d *durations) update(o *Options, now time.Duration) {
	d.until = d.newCalls + 1 + d.newCalls/8
	d.sum.Clear()
	_ = d.sum.MergeWith(d.ofPast) // fails for other mappings only
	if d.isHealthy(o) {
		_ = d.sum.MergeWith(d.current)
	}
	d.latency = Latency{}
	if !d.sum.IsEmpty() {
		values, _ := d.sum.GetValuesAtQuantiles([]float64{0.5, 0.95, 0.99}) // fails for an empty one only
		d.latency = Latency{values[0], values[1], values[2]}
	}
	was := d.warm
	d.warm = d.isWarm(o, now) && !d.sum.IsEmpty()
	if d.value = d.slowCall.durationOf(d); d.warm && !was {
		d.before = min(d.before, d.value) // it rises twofold from the first one that was learnt, and not from the default
	}
}
