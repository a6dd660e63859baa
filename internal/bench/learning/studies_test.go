package learning

import (
	"fmt"
	"math"
	"time"

	"cbproxy/internal/breaker/adaptive"
)

// ratesTable has the failures that reach callers in partial outages of 30 to 60 %, by the rate of calls.
func ratesTable() string {
	t := newTable("calls per second", "failures of the outages", "fail_max", "adaptive", "min_calls: 0")
	for _, rate := range []float64{0.1, 1, 10} {
		total, with, noMinimum, without := 0, 0, 0, 0
		for _, percent := range []int{30, 40, 50, 60} {
			k := partial(percent)
			k.rate = [2]float64{rate, rate}
			res := k.runAll(8, breakers...)
			total += sum(res[withLearning.name], func(f figures) int { return f.failures })
			with, without = with+sum(res[withLearning.name], passed), without+sum(res[withoutLearning.name], passed)
			noMinimum += sum(res[withoutMinimum.name], passed)
		}
		share := func(n int) string { return fmt.Sprintf("%d (%.0f %%)", n, 100*float64(n)/float64(without)) }
		t.row(fmt.Sprint(rate), fmt.Sprint(total), fmt.Sprint(without), share(with), share(noMinimum))
	}
	return t.String()
}

// meanRun returns the mean number of calls until n consecutive failures, of calls that fail with probability p.
func meanRun(p float64, n int) float64 {
	return (1 - math.Pow(p, float64(n))) / ((1 - p) * math.Pow(p, float64(n)))
}

// meanEvidence returns the mean number of calls until the evidence is complete, of calls that fail with probability p, by Wald's
// equation: the healthy upstream fails 1 % at most, and the fault that is looked for 30 %.
func meanEvidence(p float64) float64 {
	const p0, p1 = 0.01, 0.3
	perCall := p*math.Log(p1/p0) + (1-p)*math.Log((1-p1)/(1-p0))
	return math.Log(1/defaults().FalseAlarm) / perCall
}

// detectionTable compares the calls until the first opening with theory: for the learning breaker the evidence that is needed, divided
// by what a call adds to it on average.
func detectionTable() string {
	t := newTable("fail", "fail_max, by theory (mean)", "measured (mean)", "adaptive, by theory (mean)", "measured (mean)", "median", "min_calls: 0, median")
	for _, percent := range []int{20, 30, 40, 50, 60, 80, 100} {
		p := float64(percent) / 100
		k := partial(percent)
		k.rate, k.base, k.fault = [2]float64{2, 2}, [2]float64{0.005, 0.005}, 2*time.Hour
		res := k.runAll(16, breakers...)
		mean := func(name string) string {
			total, n := 0.0, 0
			for _, f := range res[name] {
				if !math.IsNaN(f.delayCalls) {
					total, n = total+f.delayCalls, n+1
				}
			}
			if n == 0 {
				return "never"
			}
			return fmt.Sprintf("%.0f", total/float64(n))
		}
		theory := fmt.Sprintf("%.0f", meanEvidence(p))
		median, _ := distributionOf(res[withLearning.name], func(f figures) float64 { return f.delayCalls })
		later, _ := distributionOf(res[withoutMinimum.name], func(f figures) float64 { return f.delayCalls })
		t.row(fmt.Sprintf("%d %%", percent), fmt.Sprintf("%.0f", meanRun(min(p, 1-1e-9), 5)), mean(withoutLearning.name), theory, mean(withLearning.name), median.format("%.0f"), later.format("%.0f"))
	}
	return t.String()
}

// healthyTable has the openings of healthy upstreams that fail more or less.
func healthyTable() string {
	t := newTable("each call fails with", "calls", "openings, fail_max", "by theory", "openings, adaptive", "min_calls: 0")
	for _, ratio := range []float64{0.001, 0.01, 0.03, 0.05, 0.08} {
		k := &kind{
			name: fmt.Sprint("healthy, ", ratio), rate: [2]float64{50, 50}, base: [2]float64{ratio, ratio},
			healthy: 3 * time.Hour, upstream: healthy,
		}
		res := k.runAll(2, breakers...)
		n := sum(res[withLearning.name], calls)
		t.row(fmt.Sprintf("%g %%", 100*ratio), fmt.Sprint(n), fmt.Sprint(sum(res[withoutLearning.name], openings)),
			fmt.Sprintf("%.2g", float64(n)/meanRun(ratio, 5)), fmt.Sprint(sum(res[withLearning.name], openings)), fmt.Sprint(sum(res[withoutMinimum.name], openings)))
	}
	return t.String()
}

// curve are options of the learning breaker, each with other values than the defaults.
func curve() (all []adaptive.Options) {
	for _, n := range []int{0, 20, 30, 40, 50, 70, 100} {
		o := defaults()
		o.MinCalls = n
		all = append(all, o)
	}
	for _, falseAlarm := range []float64{1e-4, 1e-12} {
		o := defaults()
		o.FalseAlarm = falseAlarm
		all = append(all, o)
	}
	o := defaults()
	o.MinRatio = 0.4
	return append(all, o)
}

// curveTable has what other options of the learning breaker would do. The defaults are in bold type.
func curveTable() string {
	t := newTable("calls before which nothing opens", "false_alarm", "min_ratio", "failures in partial outages of 30 to 60 %, of those with fail_max",
		"openings more in a million healthy calls", "good calls refused in short bursts, of those with fail_max")
	for _, o := range curve() {
		c := contender{"other options", withPolicy(learning(o))}
		bold := ""
		if o == defaults() {
			bold = "**"
		}
		t.row(bold+fmt.Sprint(o.MinCalls)+bold, fmt.Sprintf("%g", o.FalseAlarm), fmt.Sprint(o.MinRatio),
			fmt.Sprintf("%.1f %%", 100*inPartialOutages(c).ratio()),
			fmt.Sprintf("%.1f", inHealthyRecords(c).morePerMillion()), fmt.Sprintf("%.2f %%", 100*inShortBursts(c).ratio()))
	}
	return t.String()
}
