package adaptive

import (
	"math"
	"time"
)

// durationsRecord is the part of a Record that has the durations.
type durationsRecord struct {
	Past     []bins        `json:"past"` // the oldest period first
	Current  bins          `json:"current"`
	Calls    uint64        `json:"calls"`
	Failures uint64        `json:"failures"`
	Elapsed  time.Duration `json:"elapsed"` // of the current period
	Learned  time.Duration `json:"learned"`
	Total    uint64        `json:"total"`
	Before   time.Duration `json:"before"` // 0 if it was not learnt from when on a call is slow
}

// record returns what has been learnt.
func (d *durations) record(now time.Duration) *durationsRecord {
	return &durationsRecord{
		Past: d.past, Current: binsOf(d.current), Calls: d.newCalls, Failures: d.newFailures,
		Elapsed: d.elapsed(now), Learned: d.learned, Total: d.total, Before: d.before,
	}
}

// restore sets what has been learnt to that of a valid record, nil for nothing.
func (d *durations) restore(o *Options, now time.Duration, s SlowCall, r *durationsRecord) {
	d.slowCall, d.before = s, s.Default
	if r != nil {
		d.setPast(r.Past)
		r.Current.addTo(d.current)
		d.weight = 1 + r.Calls/allSampled
		d.hours = hours{start: now - r.Elapsed, newCalls: r.Calls, newFailures: r.Failures, learned: r.Learned, total: r.Total}
		if s.Auto() && r.Before > 0 {
			d.before = r.Before
		}
	}
	d.update(o, now)
}

func (r *durationsRecord) valid() bool {
	for _, b := range append([]bins{r.Current}, r.Past...) {
		if !b.valid() {
			return false
		}
	}
	return len(r.Past) <= learntHours && r.Calls >= r.Failures && r.Calls <= maxCalls && r.Total <= maxCalls &&
		r.Elapsed >= 0 && r.Elapsed <= period && r.Learned >= 0 && r.Learned < math.MaxInt64/2 && r.Before >= 0 && r.Before < math.MaxInt64/2
}
