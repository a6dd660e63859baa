package trends

import (
	"math"
	"slices"
	"time"
)

// service holds the points of one service. It is guarded by Trends.mu.
type service struct {
	sampledAt time.Time // when last was sampled
	last      Totals
	points    []point // becomes a ring buffer once it has maxPoints elements
	oldest    int     // index of the oldest point
}

// point is what is kept of a Step.
type point struct {
	time                                             int64 // in Unix seconds
	seconds                                          float32
	success, failure, rejected, cancelled, fallbacks uint32
	p50, p95, p99                                    float32 // NaN without calls to the upstream
}

// step returns the step from the last sample to next, which becomes the last one; false if no time has passed.
func (s *service) step(now time.Time, next Totals) (Step, bool) {
	elapsed := now.Sub(s.sampledAt)
	if elapsed <= 0 {
		return Step{}, false
	}
	last := &s.last
	step := Step{Time: now, Elapsed: elapsed, Totals: Totals{
		Success: increase(last.Success, next.Success), Failure: increase(last.Failure, next.Failure),
		Rejected: increase(last.Rejected, next.Rejected), Cancelled: increase(last.Cancelled, next.Cancelled),
		Fallbacks: increase(last.Fallbacks, next.Fallbacks),
		Durations: increases(last.Durations, next.Durations), Bounds: next.Bounds,
	}}
	s.sampledAt, s.last = now, next
	return step, true
}

// increase returns the increase of a counter. One that is smaller than before has been reset: its service was removed and added again.
func increase(before, after uint64) uint64 {
	if after < before {
		return after
	}
	return after - before
}

// increases returns the increase of a cumulative histogram, which has been reset if it has fewer calls than before.
func increases(before, after []uint64) []uint64 {
	steps := slices.Clone(after)
	if len(before) != len(after) || len(after) == 0 || after[len(after)-1] < before[len(before)-1] {
		return steps
	}
	for i := range steps {
		steps[i] = increase(before[i], after[i])
	}
	return steps
}

// add appends the point of a step, and overwrites the oldest one if the buffer is full.
func (s *service) add(step Step) {
	p := point{
		time: step.Time.Unix(), seconds: float32(step.Elapsed.Seconds()),
		success: uint32(step.Success), failure: uint32(step.Failure), rejected: uint32(step.Rejected), // #nosec G115 -- of one interval
		cancelled: uint32(step.Cancelled), fallbacks: uint32(step.Fallbacks), // #nosec G115
		p50: float32(Quantile(.5, step.Durations, step.Bounds)), p95: float32(Quantile(.95, step.Durations, step.Bounds)),
		p99: float32(Quantile(.99, step.Durations, step.Bounds)),
	}
	if len(s.points) < maxPoints {
		s.points = append(s.points, p)
		return
	}
	s.points[s.oldest] = p
	s.oldest = (s.oldest + 1) % len(s.points)
}

// counts returns the sums of the points in a window before the last sample.
func (s *service) counts(window time.Duration) (success, failure uint64) {
	after := s.sampledAt.Add(-window).Unix()
	for i := len(s.points) - 1; i >= 0; i-- {
		p := &s.points[(s.oldest+i)%len(s.points)]
		if p.time <= after {
			break
		}
		success, failure = success+uint64(p.success), failure+uint64(p.failure)
	}
	return success, failure
}

// Quantile estimates a quantile of a cumulative histogram like Prometheus' histogram_quantile: it interpolates linearly within
// a bucket, and returns the highest bound for values above it. It returns NaN if the histogram is empty.
func Quantile(q float64, cumulative []uint64, bounds []float64) float64 {
	if len(cumulative) == 0 || cumulative[len(cumulative)-1] == 0 {
		return math.NaN()
	}
	rank := q * float64(cumulative[len(cumulative)-1])
	below, low := 0.0, 0.0
	for i, bound := range bounds {
		if n := float64(cumulative[i]); n >= rank {
			return low + (bound-low)*(rank-below)/(n-below)
		}
		below, low = float64(cumulative[i]), bound
	}
	return low
}
