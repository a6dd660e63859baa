package forecast_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/events"
	"cbproxy/internal/trends"
)

// announcements returns the predicted times to open of each step of a series up to the one in which the calls open a breaker.
func announcements(s series, seed uint64) (times []float64) {
	policy := breaker.Policy{
		Limits:          algorithm.Limits{FailureRatio: 0.5, MinRequests: 20, Window: 30 * time.Second},
		RecoveryTimeout: time.Minute, HalfOpenRequests: 1,
	}
	projected := breaker.New("svc", policy, func(events.Event) {})
	defer projected.Close()
	observed := policy.New()
	p := play(s, seed)
	for p.breaker = projected; p.at < s.length; {
		f := p.step()
		c := p.counts[len(p.counts)-1]
		all, failures := int(c.Success+c.Failure), int(c.Failure)
		for i := range all { // in a random order
			failed := p.random.IntN(all-i) < failures
			if failed {
				failures--
			}
			now := p.at - trends.Interval + trends.Interval*time.Duration(i)/time.Duration(all)
			if observed.Observe(now, algorithm.Observation{Failed: failed}) != "" {
				return times
			}
		}
		times = append(times, f.TimeToOpen)
	}
	return times
}

// seriesNamed returns one of allSeries.
func seriesNamed(name string) series {
	return allSeries[slices.IndexFunc(allSeries, func(s series) bool { return s.name == name })]
}

// TestOpeningIsAnnounced checks what docs/predictions.md says of the time to open: the median of several seeds.
func TestOpeningIsAnnounced(t *testing.T) {
	t.Parallel()
	const seeds = 9
	for _, c := range []struct {
		series      string
		before      time.Duration // the opening
		least, most float64       // seconds
	}{
		{"decline in 10 minutes", time.Minute, 60, 150},
		{"decline in 10 minutes, 2 calls/s", time.Minute, 60, 360},
		{"decline in 3 minutes", time.Minute, 40, 90},
		{"outage", 30 * time.Second, math.Inf(1), math.Inf(1)},
	} {
		var all []float64
		for seed := range uint64(seeds) {
			times := announcements(seriesNamed(c.series), seed)
			all = append(all, times[len(times)-int(c.before/trends.Interval)])
		}
		slices.Sort(all)
		if median := all[seeds/2]; !(median >= c.least && median <= c.most) {
			t.Errorf("%s, %v before the opening: in %v s", c.series, c.before, all)
		}
	}
}

// TestOpeningIsNotAnnouncedWithoutReason counts the steps of steady services in which an opening is announced.
func TestOpeningIsNotAnnouncedWithoutReason(t *testing.T) {
	t.Parallel()
	for name, most := range map[string]int{"steady, nothing fails": 0, "steady, 1 % fail": 0, "steady, 10 % fail, 1 call in 2 s": 20} {
		times := announcements(seriesNamed(name), 0)
		n := 0
		for _, in := range times {
			if in <= 3600 {
				n++
			}
		}
		if n > most || len(times) < 700 {
			t.Errorf("%s: in %d of %d steps", name, n, len(times))
		}
	}
}
