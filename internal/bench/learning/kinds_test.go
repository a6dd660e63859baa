package learning

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// kind is a kind of records: how much traffic there is, and what happens to the upstream.
type kind struct {
	name, description string
	rate              [2]float64 // bounds of the calls per second
	base              [2]float64 // bounds of the failure ratio of the healthy upstream
	load              func(at time.Duration) float64
	// The time that is measured: healthy, with a fault, and healthy again.
	healthy, fault, after time.Duration
	// upstream returns what happens while calls are measured.
	upstream func(r *rand.Rand, rec *record) behaviour
}

var (
	allRates  = [2]float64{0.1, 100}
	fewCalls  = [2]float64{0.1, 2} // for records of a day
	baseRatio = [2]float64{0.0005, 0.03}
)

// during returns the upstream of a fault: fault is asked while it lasts, with the time since it began.
func during(rec *record, fault behaviour) behaviour {
	from, to := rec.from-rec.warm, rec.to-rec.warm
	return func(at time.Duration) (float64, time.Duration) {
		if at < from || at >= to {
			return rec.base, answer
		}
		return fault(at - from)
	}
}

// steady returns the upstream of a kind in which each call fails with the same probability during the fault.
func steady(ratio func(r *rand.Rand) float64, took time.Duration) func(*rand.Rand, *record) behaviour {
	return func(r *rand.Rand, rec *record) behaviour {
		p := ratio(r)
		return during(rec, func(time.Duration) (float64, time.Duration) { return p, took })
	}
}

func constant(ratio float64) func(*rand.Rand) float64 {
	return func(*rand.Rand) float64 { return ratio }
}

// healthy is the upstream of kinds without a fault.
func healthy(_ *rand.Rand, rec *record) behaviour {
	return func(time.Duration) (float64, time.Duration) { return rec.base, answer }
}

// partial is an outage in which a share of the calls fails, each independently of the others.
func partial(percent int) *kind {
	return &kind{
		name:        fmt.Sprintf("partial outage, %d %%", percent),
		description: fmt.Sprintf("for 20 minutes each call fails with a probability of %d %%", percent),
		rate:        allRates, base: baseRatio,
		healthy: lead, fault: 20 * time.Minute, after: 5 * time.Minute,
		upstream: steady(constant(float64(percent)/100), answer),
	}
}

var partials = []*kind{partial(20), partial(30), partial(40), partial(50), partial(60), partial(80)}

var (
	independent = &kind{
		name: "healthy", description: "2 hours without a fault: each call fails with the probability that it had before",
		rate: allRates, base: baseRatio, healthy: 2 * time.Hour, upstream: healthy,
	}
	bursty = &kind{
		name: "healthy, failures in bursts", description: "2 hours without a fault; the same number of failures, which come in bursts of four calls on average, of which 40 % fail",
		rate: allRates, base: baseRatio, healthy: 2 * time.Hour, upstream: inBursts,
	}
	diurnal = &kind{
		name: "a day", description: "a day without a fault, with up to twice the mean load and the mean failure ratio, and a twentieth of it at night",
		rate: fewCalls, base: [2]float64{0.0005, 0.015}, load: sine, healthy: 24 * time.Hour,
		upstream: func(_ *rand.Rand, rec *record) behaviour {
			return func(at time.Duration) (float64, time.Duration) { return rec.base * sine(at+rec.warm), answer }
		},
	}
	fivePercent = &kind{
		name: "always 5 %", description: "2 hours in which each call fails with a probability of 5 %, as it did before",
		rate: allRates, base: [2]float64{0.05, 0.05}, healthy: 2 * time.Hour, upstream: healthy,
	}
	shortBursts = &kind{
		name: "hostile bursts", description: "for 2 hours a burst of 5 to 19 calls, of which 30 to 100 % fail, every 200 calls, or every 150 seconds if that is longer",
		rate: allRates, base: baseRatio, healthy: 2 * time.Hour, upstream: hostile,
	}
	partialBursty = &kind{
		name: "partial outage, in bursts", description: "for 20 minutes 45 % fail: 80 and 10 % by turns, for eight calls on average",
		rate: allRates, base: baseRatio, healthy: lead, fault: 20 * time.Minute, after: 5 * time.Minute, upstream: byTurns,
	}
	partialAtPeak = &kind{
		name: "partial outage in a day", description: "a day as above, with a partial outage of 30 to 60 % for 20 minutes at some time",
		rate: fewCalls, base: [2]float64{0.0005, 0.015}, load: sine, healthy: 6 * time.Hour, fault: 20 * time.Minute, after: 17 * time.Hour,
		upstream: func(r *rand.Rand, rec *record) behaviour {
			ratio := 0.3 + 0.3*r.Float64()
			shift := time.Duration(r.Float64() * float64(12*time.Hour))
			rec.from, rec.to = rec.from+shift, rec.to+shift
			return during(rec, func(time.Duration) (float64, time.Duration) { return ratio, answer })
		},
	}
	dead = &kind{
		name: "dead", description: "for 20 minutes no connection can be made",
		rate: allRates, base: baseRatio, healthy: lead, fault: 20 * time.Minute, after: 5 * time.Minute, upstream: steady(constant(1), time.Millisecond),
	}
	slow = &kind{
		name: "slow", description: "for 20 minutes all calls fail after a timeout of 10 seconds",
		rate: allRates, base: baseRatio, healthy: lead, fault: 20 * time.Minute, after: 5 * time.Minute, upstream: steady(constant(1), 10*time.Second),
	}
	flapping = &kind{
		name: "flapping", description: "for 20 minutes dead and healthy by turns, 10 seconds each",
		rate: allRates, base: baseRatio, healthy: lead, fault: 20 * time.Minute, after: 5 * time.Minute,
		upstream: func(_ *rand.Rand, rec *record) behaviour {
			return during(rec, func(elapsed time.Duration) (float64, time.Duration) {
				if elapsed/(10*time.Second)%2 == 0 {
					return 1, time.Millisecond
				}
				return rec.base, answer
			})
		},
	}
	deployments = &kind{
		name: "deployments", description: "a deployment every 10 minutes, four times: for a minute 20 to 80 % fail",
		rate: allRates, base: baseRatio, healthy: lead, fault: 40 * time.Minute, after: 5 * time.Minute,
		upstream: func(r *rand.Rand, rec *record) behaviour {
			ratio := 0.2 + 0.6*r.Float64()
			return during(rec, func(elapsed time.Duration) (float64, time.Duration) {
				if elapsed%(10*time.Minute) < time.Minute {
					return ratio, answer
				}
				return rec.base, answer
			})
		},
	}
	poisoning = &kind{
		name: "slow poisoning", description: "the failure ratio doubles every hour for 6 hours, from 1 to 64 %",
		rate: [2]float64{0.1, 10}, base: [2]float64{0.01, 0.01}, healthy: lead, fault: 6 * time.Hour, after: 5 * time.Minute,
		upstream: func(_ *rand.Rand, rec *record) behaviour {
			return during(rec, func(elapsed time.Duration) (float64, time.Duration) {
				return rec.base * math.Exp2(elapsed.Hours()), answer
			})
		},
	}
)

// kinds are all kinds, in the order of the page.
var kinds = append([]*kind{independent, bursty, diurnal, fivePercent, shortBursts}, append(partials,
	partialBursty, partialAtPeak, dead, slow, flapping, deployments, poisoning)...)

// sine is the load in a day, whose mean is 1.
func sine(at time.Duration) float64 { return 1 + 0.95*math.Sin(2*math.Pi*at.Hours()/24) }

// inBursts is a healthy upstream whose failures come in bursts, with the same mean failure ratio.
func inBursts(r *rand.Rand, rec *record) behaviour {
	const ratio, length = 0.4, 4.0
	enter := rec.base / (ratio - rec.base) / length
	inBurst := false
	return func(time.Duration) (float64, time.Duration) {
		if inBurst = inBurst != (r.Float64() < 1/length && inBurst || r.Float64() < enter && !inBurst); inBurst {
			return ratio, answer
		}
		return 0, answer
	}
}

// hostile has bursts of fewer than 20 calls.
func hostile(r *rand.Rand, rec *record) behaviour {
	n, length, ratio := 0, 0, 0.0
	distance := max(200, int(150*rec.rate)) // so that a breaker has closed again
	return func(time.Duration) (float64, time.Duration) {
		if n++; n == distance {
			n, length, ratio = 0, 5+r.IntN(15), 0.3+0.7*r.Float64()
		}
		if n < length {
			return ratio, answer
		}
		return rec.base, answer
	}
}

// byTurns is a partial outage whose failures come in bursts.
func byTurns(r *rand.Rand, rec *record) behaviour {
	ratio, other := 0.8, 0.1
	return during(rec, func(time.Duration) (float64, time.Duration) {
		if r.Float64() < 1.0/8 {
			ratio, other = other, ratio
		}
		return ratio, answer
	})
}
