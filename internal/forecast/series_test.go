package forecast_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/forecast"
	"cbproxy/internal/trends"
)

// bounds are those of the response times in the metrics.
var bounds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

type share [len(events.ForecastHorizons)]float64

// series is the course of the calls of a service. Each function gets the time in seconds.
type series struct {
	name    string
	length  time.Duration
	ratio   func(t float64) float64 // of successes
	rate    func(t float64) float64 // calls in a second
	latency func(t float64) float64 // the median in seconds; nil: 0.1

	// share is how large the error of the predicted success ratio may be as a share of that of "as now", by the horizon.
	share share
}

func constant(v float64) func(float64) float64 { return func(float64) float64 { return v } }

// ramp returns a function that goes from one value to another one between two times.
func ramp(begin, end, from, to float64) func(float64) float64 {
	return func(t float64) float64 { return from + (to-from)*min(max((t-begin)/(end-begin), 0), 1) }
}

// flapping returns a function that takes two values in turn.
func flapping(period, a, b float64) func(float64) float64 {
	return func(t float64) float64 {
		if int(t/period)%2 == 0 {
			return a
		}
		return b
	}
}

// day returns a function with the lowest value at midnight and the highest one at noon.
func day(lowest, highest float64) func(float64) float64 {
	return func(t float64) float64 { return lowest + (highest-lowest)*(0.5-0.5*math.Cos(2*math.Pi*t/86400)) }
}

// allSeries are those by which the parameters were chosen.
var allSeries = []series{
	{"steady, nothing fails", time.Hour, constant(1), constant(20), nil, share{1, 1}},
	{"steady, 1 % fail", time.Hour, constant(0.99), constant(20), nil, share{1.05, 1.05}},
	{"steady, 10 % fail, 1 call in 2 s", time.Hour, constant(0.9), constant(0.5), nil, share{1, 1}},
	{"decline in 3 minutes", 15 * time.Minute, ramp(300, 480, 0.99, 0.4), constant(20), ramp(300, 480, 0.1, 1), share{0.75, 0.95}},
	{"decline in 10 minutes", 25 * time.Minute, ramp(300, 900, 0.99, 0.4), constant(20), ramp(300, 900, 0.1, 1), share{0.8, 0.85}},
	{"decline in 10 minutes, 2 calls/s", 25 * time.Minute, ramp(300, 900, 0.99, 0.4), constant(2), ramp(300, 900, 0.1, 1), share{1, 0.95}},
	{"decline in 30 minutes", 45 * time.Minute, ramp(300, 2100, 0.99, 0.4), constant(20), ramp(300, 2100, 0.1, 1), share{1.05, 0.85}},
	{"outage", 20 * time.Minute, ramp(600, 600.001, 0.99, 0.05), constant(20), ramp(600, 600.001, 0.1, 1), share{0.9, 1}},
	{"recovery in 3 minutes", 15 * time.Minute, ramp(300, 480, 0.3, 0.99), constant(20), ramp(300, 480, 1, 0.1), share{0.75, 0.9}},
	{"load of a day", 24 * time.Hour, day(0.999, 0.97), day(1, 30), day(0.08, 0.3), share{1, 1.1}},
	{"flapping each minute", time.Hour, flapping(60, 0.98, 0.5), constant(20), flapping(60, 0.1, 0.5), share{1, 1.4}},
	{"flapping each 4 minutes", time.Hour, flapping(240, 0.98, 0.5), constant(20), flapping(240, 0.1, 0.5), share{0.95, 1.3}},
}

// player plays a series into forecasts.
type player struct {
	series
	random      *rand.Rand
	forecasts   *forecast.Forecasts
	breaker     forecast.Breaker
	interrupted bool
	at          time.Duration
	counts      []forecast.Counts // of all steps
	windows     [len(events.ForecastWindows)]forecast.Counts
}

func play(s series, seed uint64) *player {
	return &player{series: s, random: rand.New(rand.NewPCG(seed, 0)), forecasts: forecast.New()}
}

// step makes the calls of one step, and returns the forecast.
func (p *player) step() events.Forecast {
	t := p.at.Seconds()
	step := trends.Step{Elapsed: trends.Interval, Totals: trends.Totals{Durations: make([]uint64, len(bounds)+1), Bounds: bounds}}
	median := 0.1
	if p.latency != nil {
		median = p.latency(t)
	}
	for range p.poisson(p.rate(t) * trends.Interval.Seconds()) {
		if p.random.Float64() < p.ratio(t) {
			step.Success++
		} else {
			step.Failure++
		}
		took := median * math.Exp(0.5*p.random.NormFloat64())
		bucket, _ := slices.BinarySearch(bounds, took)
		step.Durations[bucket]++
	}
	for i := range bounds { // they are cumulative
		step.Durations[i+1] += step.Durations[i]
	}
	return p.observe(step)
}

// observe adds a step.
func (p *player) observe(step trends.Step) events.Forecast {
	p.at += trends.Interval
	step.Time = time.Unix(0, 0).Add(p.at)
	p.counts = append(p.counts, forecast.Counts{Success: step.Success, Failure: step.Failure})
	o := forecast.Observation{Step: step, Breaker: p.breaker, Interrupted: p.interrupted}
	for i, w := range events.ForecastWindows {
		sum := &p.windows[i]
		sum.Success, sum.Failure = sum.Success+step.Success, sum.Failure+step.Failure
		if left := len(p.counts) - 1 - int(w.Duration/trends.Interval); left >= 0 {
			sum.Success, sum.Failure = sum.Success-p.counts[left].Success, sum.Failure-p.counts[left].Failure
		}
	}
	o.Windows = p.windows
	p.forecasts.Observe(map[string]forecast.Observation{"svc": o})
	return p.forecasts.Forecast("svc")
}

// poisson returns a random number of calls.
func (p *player) poisson(mean float64) int {
	n, limit := 0, math.Exp(-mean)
	for product := p.random.Float64(); product > limit; product *= p.random.Float64() {
		n++
	}
	return n
}
