// Package adaptive learns how often the calls of a service fail while it is healthy, and recognizes failures that are too many for that.
// It sees the results of calls and the time, and nothing else, so that recorded calls can be replayed.
package adaptive

import (
	"math"
	"time"
)

// likelihoods are what a call adds to the evidence for a fault.
type likelihoods struct {
	failure float64 // ln(p1 / p0), positive
	success float64 // ln((1 - p1) / (1 - p0)), negative
	limit   float64 // ln(1 / falseAlarm), at which the evidence is complete
}

// faultRatio returns the failure ratio of the fault that is looked for, p1, if a healthy service has the ratio p0.
func faultRatio(p0 float64) float64 { return min(max(3*p0+0.1, 0.3), 0.9) }

// likelihoodsOf returns the likelihoods for a healthy failure ratio above 0 and below 0.9.
func likelihoodsOf(p0, falseAlarm float64) likelihoods {
	p1 := faultRatio(p0)
	return likelihoods{math.Log(p1 / p0), math.Log((1 - p1) / (1 - p0)), math.Log(1 / falseAlarm)}
}

// detector is a cumulative sum test of the failure ratio p0 against p1: E. S. Page, Continuous inspection schemes, Biometrika 41 (1954),
// for results of calls. It needs no window, and depends on the number of calls and not on their rate.
type detector struct {
	sum             float64       // the log of the likelihood ratio, from 0 to the limit, so that it falls as fast after a long fault
	calls, failures uint64        // since the sum was last 0
	row             uint64        // failures since the last success
	since           time.Duration // when the first of them was counted
	injected        bool          // a fault was injected into one of them
}

// observe counts a call.
func (d *detector) observe(l *likelihoods, failed bool) {
	d.calls++
	if failed {
		d.failures++
		d.row++
		d.sum = min(d.sum+l.failure, l.limit)
		return
	}
	d.row = 0
	if d.sum += l.success; d.sum <= 0 {
		*d = detector{}
	}
}

// evidence returns the share of the limit that the sum has reached, from 0 to 1.
func (d *detector) evidence(l *likelihoods) float64 { return min(d.sum/l.limit, 1) }

// ratio returns the failure ratio since the sum was last 0.
func (d *detector) ratio() float64 {
	if d.calls == 0 {
		return 0
	}
	return float64(d.failures) / float64(d.calls)
}

// rowSuffices reports whether the failures since the last success are all of the evidence that is needed.
func (d *detector) rowSuffices(l *likelihoods) bool { return float64(d.row)*l.failure >= l.limit }
