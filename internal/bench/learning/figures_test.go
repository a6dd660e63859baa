package learning

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"
)

// figures are what a contender did with the measured part of a record.
type figures struct {
	calls, good int // that were measured, and those of them that would have succeeded
	failures    int // of the fault; all that were measured if there was none
	passed      int // those of them that reached callers
	refusedGood int // good calls that were refused
	openings    int

	// The first opening after the fault began: calls of the fault until then, and seconds; both NaN if there was none.
	delayCalls, delaySeconds float64
}

// measure returns the figures of a contender.
func (rec *record) measure(d decisions) figures {
	f := figures{delayCalls: math.NaN(), delaySeconds: math.NaN()}
	first := time.Duration(-1)
	for _, at := range d.openings {
		if at >= rec.warm {
			f.openings++
		}
		if first < 0 && at >= rec.from && at < rec.to {
			first = at
		}
	}
	if first >= 0 {
		f.delayCalls, f.delaySeconds = 0, (first - rec.from).Seconds()
	}
	for i := rec.measured(); i < len(rec.calls); i++ {
		c := &rec.calls[i]
		f.calls++
		if c.at >= rec.from && c.at <= first {
			f.delayCalls++
		}
		switch inFault := rec.from == rec.to || c.at >= rec.from && c.at < rec.to; {
		case !c.failed:
			f.good++
			if !d.admitted[i] {
				f.refusedGood++
			}
		case inFault:
			f.failures++
			if d.admitted[i] {
				f.passed++
			}
		}
	}
	return f
}

// results are the figures of each contender, by its name, for each record of a kind.
type results map[string][]figures

// runAll runs n records of a kind.
func (k *kind) runAll(n int, all ...contender) results {
	res := results{}
	for _, c := range all {
		res[c.name] = make([]figures, n)
	}
	var group sync.WaitGroup
	limit := make(chan struct{}, runtime.GOMAXPROCS(0))
	for seed := range n {
		limit <- struct{}{}
		group.Go(func() {
			defer func() { <-limit }()
			rec := k.record(seed, n)
			for _, c := range all {
				res[c.name][seed] = rec.measure(c.run(rec))
			}
		})
	}
	group.Wait()
	return res
}

// sum adds up a figure of all records.
func sum(all []figures, of func(figures) int) (n int) {
	for _, f := range all {
		n += of(f)
	}
	return n
}

func passed(f figures) int      { return f.passed }
func refusedGood(f figures) int { return f.refusedGood }
func openings(f figures) int    { return f.openings }
func calls(f figures) int       { return f.calls }

// distribution is the median, and the range of the middle 90 %, of a figure.
type distribution struct{ low, median, high float64 }

// distributionOf returns that of the records that have the figure.
func distributionOf(all []figures, of func(figures) float64) (d distribution, having int) {
	var values []float64
	for _, f := range all {
		if v := of(f); !math.IsNaN(v) {
			values = append(values, v)
		}
	}
	if len(values) == 0 {
		return distribution{}, 0
	}
	slices.Sort(values)
	at := func(share float64) float64 { return values[int(math.Round(share*float64(len(values)-1)))] }
	return distribution{at(0.05), at(0.5), at(0.95)}, len(values)
}

func (d distribution) format(verb string) string {
	median, low, high := fmt.Sprintf(verb, d.median), fmt.Sprintf(verb, d.low), fmt.Sprintf(verb, d.high)
	if low == high {
		return median
	}
	return fmt.Sprintf("%s (%s–%s)", median, low, high)
}
