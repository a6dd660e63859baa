package forecast

import (
	"math"

	"cbproxy/internal/trends"
)

const (
	// latencyCalls is the number of calls from which a percentile is computed. It is below the one of a step for most services, so the
	// calls of several steps are taken together: the 95th percentile of one call is not that of many.
	latencyCalls = 20
	// latencySteps is the number of steps within which they must come.
	latencySteps = 12
	// shortestLatency is the smallest percentile in seconds.
	shortestLatency = 0.0001
)

// latencyModel predicts the 95th percentile of the response times, on a logarithmic scale.
type latencyModel struct {
	holt
	variance  float64 // of the level
	begun     bool
	age       int      // steps since the last observation
	durations []uint64 // of the steps since then: a cumulative histogram
}

// observe adds the calls of a step.
func (m *latencyModel) observe(s *trends.Step) {
	m.age++
	if m.begun {
		m.advance()
	}
	m.durations = addDurations(m.durations, s.Durations)
	switch {
	case calls(m.durations) >= latencyCalls:
		m.correctBy(math.Log(max(trends.Quantile(0.95, m.durations, s.Bounds), shortestLatency)), calls(m.durations))
		m.age, m.durations = 0, nil
	case m.age >= latencySteps:
		*m = latencyModel{}
	}
}

// correctBy adds an observation of the logarithm, from a number of calls.
func (m *latencyModel) correctBy(v float64, calls uint64) {
	noise := latencyNoise / min(float64(calls), independentCalls)
	if !m.begun {
		m.holt, m.variance, m.begun = holt{level: v}, noise, true
		return
	}
	m.variance += latencyVariance * float64(m.age)
	gain := m.variance / (m.variance + noise)
	m.correct(gain*(v-m.level), latencyTrendGain, m.age)
	m.variance *= 1 - gain
}

// predict returns the percentile in seconds that is predicted for a number of steps from now, at most the longest that the histogram
// has; NaN if it is not known.
func (m *latencyModel) predict(steps int, longest float64) float64 {
	if !m.begun {
		return math.NaN()
	}
	return min(math.Exp(m.at(steps)), longest)
}

// addDurations returns the sum of two cumulative histograms. It may modify the first, which may be nil.
func addDurations(sum, add []uint64) []uint64 {
	if len(sum) != len(add) {
		sum = make([]uint64, len(add))
	}
	for i, n := range add {
		sum[i] += n
	}
	return sum
}

// calls returns the number of calls in a cumulative histogram.
func calls(durations []uint64) uint64 {
	if len(durations) == 0 {
		return 0
	}
	return durations[len(durations)-1]
}
