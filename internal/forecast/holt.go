package forecast

import "math"

// The parameters of the method. They are the best ones in coarse steps on the series of TestAccuracy; the accuracy changes little around
// them.
const (
	// damping is the factor by which a trend becomes smaller with each step. A trend that went on for ever would predict an outage from
	// a short decline; this one has lost half of its size after 85 s, and changes the level by at most 24 times what it is now. With
	// less damping, openings are announced earlier, but the predictions for 5 minutes get worse.
	damping = 0.96
	// maxTrendChange is the largest change of a step that is taken for a trend: a sudden outage is none.
	maxTrendChange = 0.1

	// ratioTrendGain is the share of an unexpected change of the ratio that is taken for a change of its trend.
	ratioTrendGain = 0.1
	// ratioVariance is how much the ratio is assumed to change by itself in a step: the variance of its logit. A larger value follows
	// faster, and takes more noise for changes.
	ratioVariance = 0.002
	// largestVariance is the variance of a ratio of which little is known.
	largestVariance = 1.0
	// independentCalls is the number of calls that the calls of one step are at most worth: when many fail at once, that is often for
	// one reason.
	independentCalls = 200.0

	// latencyTrendGain and latencyVariance are the same for the logarithm of the latency.
	latencyTrendGain = 0.05
	latencyVariance  = 0.002
	// latencyNoise, divided by a number of calls, is the variance of the logarithm of their 95th percentile.
	latencyNoise = 3.0
)

// holt is Holt's linear method with a damped trend (Gardner and McKenzie, Forecasting trends in time series, Management Science 31,
// 1985). The level may be any number: it is the logarithm of the odds of success, or of the latency.
type holt struct {
	level, trend float64 // trend is the change of the level in a step
}

// at returns the level that is predicted for a number of steps from now.
func (h *holt) at(steps int) float64 {
	return h.level + h.trend*damping*(1-math.Pow(damping, float64(steps)))/(1-damping)
}

// advance moves on by a step in which nothing is observed.
func (h *holt) advance() {
	h.trend *= damping
	h.level += h.trend
}

// correct changes the level after an observation of some steps. gain is the share of the change that is taken for a change of the trend.
func (h *holt) correct(change, gain float64, steps int) {
	h.level += change
	h.trend += gain * min(max(change/float64(steps), -maxTrendChange), maxTrendChange)
}

// ratioModel predicts a ratio of successes. How much a step changes the level depends on its calls: with few of them, on how little they
// say. So a step without calls counts as nothing, and a step with one failure not as an outage.
type ratioModel struct {
	holt
	variance float64 // of the level
}

// maxLogit is the largest level: 0.99995.
const maxLogit = 10

// begin starts with the calls of some steps. Before any call, 399 of 400 are assumed to succeed, with the weight of two calls.
func (m *ratioModel) begin(success, failure uint64) {
	m.holt = holt{level: min(logit((float64(success)+2*0.9975)/(float64(success+failure)+2)), maxLogit)}
	m.variance = largestVariance
}

// observe adds the calls of a step. The new level is the most probable one, if the old one is normally distributed.
func (m *ratioModel) observe(success, failure uint64) {
	m.advance()
	m.variance = min(m.variance+ratioVariance, largestVariance)
	calls := float64(success + failure)
	if calls == 0 {
		return
	}
	weight := 1 / (1 + calls/independentCalls)
	s, n := float64(success)*weight, calls*weight
	low, high := -float64(maxLogit), float64(maxLogit) // the derivative of the log likelihood falls from low to high
	for high-low > 1e-6 {
		x := (low + high) / 2
		if s-n*logistic(x)-(x-m.level)/m.variance > 0 {
			low = x
		} else {
			high = x
		}
	}
	m.correct(low-m.level, ratioTrendGain, 1)
	p := logistic(m.level)
	m.variance = 1 / (1/m.variance + n*p*(1-p))
}

// predict returns the ratio that is predicted for a number of steps from now.
func (m *ratioModel) predict(steps int) float64 { return logistic(m.at(steps)) }

func logistic(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func logit(p float64) float64 { return math.Log(p / (1 - p)) }
