package forecast

import (
	"math"
	"testing"

	"cbproxy/internal/trends"
)

func TestTrendIsDamped(t *testing.T) {
	h := holt{level: 2, trend: 1}
	for steps, want := range map[int]float64{0: 2, 1: 2.96, 2: 3.8816, 10000: 26} {
		if got := h.at(steps); math.Abs(got-want) > 1e-9 {
			t.Errorf("after %d steps: %v, want %v", steps, got, want)
		}
	}
	for steps := 1; steps < 100; steps++ {
		want := h.at(10)
		if h.advance(); math.Abs(h.at(9)-want) > 1e-9 {
			t.Fatalf("step %d changes the prediction for the same time: %v, want %v", steps, h.at(9), want)
		}
		h = holt{level: h.level, trend: h.trend}
	}
}

func TestSuddenChangeIsNoTrend(t *testing.T) {
	var h holt
	h.correct(-5, 0.1, 1)
	if h.level != -5 || math.Abs(h.trend+0.01) > 1e-12 {
		t.Errorf("%+v", h)
	}
	h = holt{}
	h.correct(0.06, 0.5, 3) // 0.02 in a step
	if math.Abs(h.trend-0.01) > 1e-12 {
		t.Errorf("%+v", h)
	}
}

// A level must maximize the probability of the calls of a step, given the level before.
func TestRatioIsMostProbable(t *testing.T) {
	for _, c := range []struct{ success, failure uint64 }{{1, 0}, {0, 1}, {3, 1}, {50, 50}, {0, 1000}, {1000000, 0}, {99, 1}} {
		for _, level := range []float64{-3, 0, 2, 6} {
			before := ratioModel{holt: holt{level: level}, variance: 0.5}
			after := before
			after.observe(c.success, c.failure)
			weight := 1 / (1 + float64(c.success+c.failure)/independentCalls)
			probability := func(x float64) float64 {
				return weight*(float64(c.success)*math.Log(logistic(x))+float64(c.failure)*math.Log(1-logistic(x))) -
					(x-level)*(x-level)/(2*(before.variance+ratioVariance))
			}
			for _, d := range []float64{-0.01, 0.01} {
				if probability(after.level+d) > probability(after.level) {
					t.Errorf("%+v from %v: %v is more probable than %v", c, level, after.level+d, after.level)
				}
			}
			if !(after.variance < before.variance+ratioVariance && after.variance > 0) {
				t.Errorf("%+v from %v: variance %v", c, level, after.variance)
			}
		}
	}
}

func TestLatencyTakesStepsTogether(t *testing.T) {
	bounds := []float64{1, 2}
	step := func(m *latencyModel, upTo1, upTo2 uint64) {
		m.observe(&trends.Step{Totals: trends.Totals{Durations: []uint64{upTo1, upTo2, upTo2}, Bounds: bounds}})
	}
	var m latencyModel
	for range 3 {
		step(&m, 1, 5)
		if got := m.predict(0, 2); !math.IsNaN(got) {
			t.Errorf("from less than 20 calls: %v", got)
		}
	}
	step(&m, 0, 5) // 20 calls, 3 of them up to 1 s: the 19th is at 1 + 16/17
	if got, want := m.predict(0, 2), 1+16.0/17; math.Abs(got-want) > 1e-9 {
		t.Errorf("%v, want %v", got, want)
	}
	for range latencySteps - 1 {
		step(&m, 0, 1)
	}
	if math.IsNaN(m.predict(0, 2)) {
		t.Error("forgotten too early")
	}
	if step(&m, 0, 1); !math.IsNaN(m.predict(0, 2)) {
		t.Error("a latency that is a minute old is predicted")
	}
	m.holt, m.begun = holt{level: 5}, true
	if got := m.predict(0, 2); got != 2 {
		t.Errorf("above the longest duration: %v", got)
	}
}
