package learning

import (
	"math"
	"time"
)

// envoy is Envoy's admission control filter by its documentation, with its default values: a call is rejected with the probability
// ((n - s / threshold) / (n + 1)) ^ (1 / aggression), at most 80 %, where n calls ended in the last 30 seconds and s of them succeeded.
// Unlike in cbproxy's algorithm throttle, n is the number of calls that were made, without the rejected ones.
// https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/admission_control_filter
type envoy struct{ window lastSeconds }

const (
	envoyThreshold    = 0.95 // sr_threshold
	envoyAggression   = 1
	envoyMaxRejection = 0.8 // max_rejection_probability
	envoyWindow       = 30  // sampling_window, in seconds
)

func newEnvoy() *envoy { return &envoy{newLastSeconds(envoyWindow)} }

func (e *envoy) admit(now time.Duration, random float64) bool {
	calls, failures := e.window.counts(now)
	n, s := float64(calls), float64(calls-failures)
	p := math.Pow(max(0, (n-s/envoyThreshold)/(n+1)), 1.0/envoyAggression)
	return random >= min(p, envoyMaxRejection)
}

func (e *envoy) observe(now time.Duration, failed bool) { e.window.count(now, failed) }

// lastSeconds counts the calls of the last seconds, the current one included.
type lastSeconds struct {
	slots           []slot
	current         int64 // the number of the second
	calls, failures int
}

type slot struct{ calls, failures int }

func newLastSeconds(n int) lastSeconds { return lastSeconds{slots: make([]slot, n)} }

func (w *lastSeconds) advance(now time.Duration) {
	second, n := int64(now/time.Second), int64(len(w.slots))
	for i := max(w.current+1, second-n+1); i <= second; i++ {
		s := &w.slots[i%n]
		w.calls, w.failures = w.calls-s.calls, w.failures-s.failures
		*s = slot{}
	}
	w.current = max(w.current, second)
}

func (w *lastSeconds) count(now time.Duration, failed bool) {
	w.advance(now)
	s := &w.slots[w.current%int64(len(w.slots))]
	s.calls++
	w.calls++
	if failed {
		s.failures++
		w.failures++
	}
}

func (w *lastSeconds) counts(now time.Duration) (calls, failures int) {
	w.advance(now)
	return w.calls, w.failures
}
