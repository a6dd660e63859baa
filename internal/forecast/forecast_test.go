package forecast_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/forecast"
	"cbproxy/internal/trends"
)

// calls returns a step with calls that take 50 ms, and slowCalls one with calls that take 5 s.
func calls(success, failure uint64) trends.Step     { return callsOf(0.05, success, failure) }
func slowCalls(success, failure uint64) trends.Step { return callsOf(5, success, failure) }

func callsOf(seconds float64, success, failure uint64) trends.Step {
	step := trends.Step{Elapsed: trends.Interval, Totals: trends.Totals{Success: success, Failure: failure, Bounds: bounds}}
	for _, b := range append(bounds, math.Inf(1)) {
		n := success + failure
		if b < seconds {
			n = 0
		}
		step.Durations = append(step.Durations, n)
	}
	return step
}

// repeat observes a step n times and returns the last forecast.
func (p *player) repeat(n int, step trends.Step) (f events.Forecast) {
	for range n {
		f = p.observe(step)
	}
	return f
}

// wantMissing checks that there are predictions, or why there are none.
func wantMissing(t *testing.T, when string, f events.Forecast, want events.ForecastMissing) {
	t.Helper()
	if f.Missing != want {
		t.Errorf("%s: missing because of %q, want %q", when, f.Missing, want)
	}
	for _, v := range []float64{f.Trend, f.Predictions[0].SuccessRatio, f.Predictions[1].SuccessRatio} {
		if math.IsNaN(v) != (want != "") {
			t.Errorf("%s: a prediction is %v", when, v)
		}
	}
	if want != "" && !(math.IsNaN(f.Predictions[0].Latency) && math.IsNaN(f.Predictions[1].Latency)) { // it may need more calls
		t.Errorf("%s: %+v", when, f)
	}
}

func TestSteadyServiceIsPredictedToGoOn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ success, failure uint64 }{{100, 0}, {99, 1}, {50, 50}, {3, 1}, {0, 100}} {
		f := play(series{}, 0).repeat(200, calls(c.success, c.failure))
		want := float64(c.success) / float64(c.success+c.failure)
		for i, p := range f.Predictions {
			if math.Abs(p.SuccessRatio-want) > 0.002 {
				t.Errorf("%+v: predicted are %v", c, p.SuccessRatio)
			}
			if c.success+c.failure >= 20 && (p.Latency < 0.025 || p.Latency > 0.05) {
				t.Errorf("%+v: the latency is %v", c, p.Latency)
			}
			if e := p.SuccessRatioError; e.Predicted > 0.003 || e.AsNow > 1e-6 {
				t.Errorf("%+v, horizon %d: errors %+v", c, i, e)
			}
		}
		if math.Abs(f.Trend) > 0.001 || f.SuccessRatio != [3]float64{want, want, want} || !math.IsNaN(f.TimeToOpen) {
			t.Errorf("%+v: %+v", c, f)
		}
	}
}

func TestDeclineIsPredicted(t *testing.T) {
	t.Parallel()
	p := play(series{}, 0)
	p.repeat(24, calls(100, 0))
	var f events.Forecast
	for i := range uint64(30) { // 0.6 in 150 s
		f = p.observe(calls(100-2*i, 2*i))
	}
	now := 0.42
	if soon, later := f.Predictions[0].SuccessRatio, f.Predictions[1].SuccessRatio; !(soon < now && later < soon && soon > 0.2) || f.Trend > -0.1 || f.Trend < -0.3 {
		t.Errorf("%+v", f)
	}
	if e := f.Predictions[0].SuccessRatioError; !(e.Predicted < 0.6*e.AsNow) {
		t.Errorf("errors %+v", e)
	}
}

// A step without calls, or with few, must change nothing by itself.
func TestStepsWithFewCalls(t *testing.T) {
	t.Parallel()
	for name, between := range map[string]trends.Step{"none": calls(0, 0), "one success": calls(1, 0), "one failure": calls(0, 1)} {
		p := play(series{}, 0)
		before := p.repeat(100, calls(45, 5)).Predictions[0].SuccessRatio
		f := p.repeat(1, between)
		if got := f.Predictions[0].SuccessRatio; math.Abs(got-before) > 0.005 {
			t.Errorf("%s: %v, before %v", name, got, before)
		}
		if f = p.repeat(30, calls(0, 0)); math.Abs(f.Predictions[1].SuccessRatio-before) > 0.01 {
			t.Errorf("%s, and none for 150 s: %v, before %v", name, f.Predictions[1].SuccessRatio, before)
		}
	}
}

func TestPredictionsNeedCalls(t *testing.T) {
	t.Parallel()
	p := play(series{}, 0)
	if f := p.forecasts.Forecast("svc"); !f.Time.IsZero() || f.Missing != events.ForecastStarting {
		t.Errorf("before the first step: %+v", f)
	}
	f := p.repeat(11, calls(10, 0))
	wantMissing(t, "after 55 s", f, events.ForecastStarting)
	if f.SuccessRatio[0] != 1 || !f.Time.Equal(time.Unix(55, 0)) {
		t.Errorf("%+v", f)
	}
	wantMissing(t, "after a minute", p.observe(calls(10, 0)), "")

	p = play(series{}, 0)
	f = p.repeat(9, calls(1, 0))
	if !math.IsNaN(f.SuccessRatio[0]) || !math.IsNaN(f.SuccessRatio[2]) {
		t.Errorf("the ratio of 9 calls is known: %+v", f)
	}
	if f = p.repeat(1, calls(0, 1)); f.SuccessRatio[0] != 0.9 {
		t.Errorf("of 10 calls: %+v", f)
	}
	wantMissing(t, "after a minute with 19 calls", p.repeat(9, calls(1, 0)), events.ForecastFewCalls)
	wantMissing(t, "with 20 calls", p.repeat(1, calls(1, 0)), "")

	p.repeat(20, calls(10, 0))
	wantMissing(t, "4 minutes 55 s after the last call", p.repeat(58, calls(0, 0)), "")
	wantMissing(t, "5 minutes after the last call", p.repeat(2, calls(0, 0)), events.ForecastFewCalls)
	wantMissing(t, "calls after a pause", p.repeat(11, calls(5, 5)), events.ForecastStarting)
	f = p.repeat(1, calls(5, 5))
	wantMissing(t, "a minute after the pause", f, "")
	if got := f.Predictions[0].SuccessRatio; math.Abs(got-0.5) > 0.01 {
		t.Errorf("after a pause: %v, what was before is not forgotten", got)
	}
}

func TestPredictionsWhileBreakerIsNotClosed(t *testing.T) {
	t.Parallel()
	p := play(series{}, 0)
	before := p.repeat(120, calls(100, 0)).Predictions[1].SuccessRatioError
	p.interrupted = true
	wantMissing(t, "open", p.repeat(1, calls(0, 10)), events.ForecastNotClosed)
	f := p.repeat(12, calls(0, 1))
	wantMissing(t, "open for a minute", f, events.ForecastNotClosed)
	p.interrupted = false
	wantMissing(t, "closed", p.repeat(11, slowCalls(90, 10)), events.ForecastStarting)
	f = p.repeat(1, slowCalls(90, 10))
	wantMissing(t, "closed for a minute", f, "")
	if got := f.Predictions[0].SuccessRatio; math.Abs(got-0.9) > 0.01 {
		t.Errorf("after an opening: %v", got)
	}
	if got := f.Predictions[1].Latency; got < 2.5 || got > 5 {
		t.Errorf("after an opening: the latency is %v", got)
	}
	f = p.repeat(50, slowCalls(90, 10))
	if after := f.Predictions[1].SuccessRatioError; after != before {
		t.Errorf("predictions from before the opening are compared: errors %+v, before %+v", after, before)
	}
}

func TestPausedProcess(t *testing.T) {
	t.Parallel()
	p := play(series{}, 0)
	p.repeat(6, calls(100, 0))
	late := calls(600, 0)
	late.Elapsed = 30 * time.Second
	wantMissing(t, "after 30 s and a step of 30 s", p.observe(late), "")
	before := p.repeat(60, calls(100, 0)).Predictions[0].SuccessRatioError
	p.observe(late)
	if after := p.repeat(8, calls(50, 50)).Predictions[0].SuccessRatioError; after != before {
		t.Errorf("predictions from before a pause are compared: errors %+v, before %+v", after, before)
	}
	late.Elapsed = 10 * time.Minute
	wantMissing(t, "a step of 10 minutes", p.observe(late), events.ForecastStarting)
	late.Elapsed = time.Millisecond
	wantMissing(t, "a step of 1 ms", p.observe(late), events.ForecastStarting)
}

// TestErrorIsMeanOfLastHour computes the errors from all forecasts in the way in which they are documented.
func TestErrorIsMeanOfLastHour(t *testing.T) {
	t.Parallel()
	p := play(series{ratio: flapping(200, 0.95, 0.6), rate: flapping(500, 8, 1)}, 1)
	var all []events.Forecast
	for range 60 * 12 {
		all = append(all, p.step())
		if n := len(all); n%97 != 0 {
			continue
		}
		for i, h := range events.ForecastHorizons {
			var predicted, asNow, n float64
			for made, f := range all {
				at := made + int(h.Duration/trends.Interval) // the index of the last step before the time of the prediction
				if at+3 >= len(all) {
					break
				}
				c := forecast.Counts{}
				for _, s := range p.counts[at-2 : at+4] {
					c.Success, c.Failure = c.Success+s.Success, c.Failure+s.Failure
				}
				if actual := float64(c.Success) / float64(c.Success+c.Failure); c.Success+c.Failure >= 10 && !math.IsNaN(f.Predictions[i].SuccessRatio+f.SuccessRatio[0]) {
					predicted += math.Abs(f.Predictions[i].SuccessRatio - actual)
					asNow += math.Abs(f.SuccessRatio[0] - actual)
					n++
				}
			}
			got := all[len(all)-1].Predictions[i].SuccessRatioError
			if n < 12 {
				if !math.IsNaN(got.Predicted) || !math.IsNaN(got.AsNow) {
					t.Errorf("%s: errors of %v predictions: %+v", h.Name, n, got)
				}
			} else if math.Abs(got.Predicted-predicted/n) > 1e-5 || math.Abs(got.AsNow-asNow/n) > 1e-5 {
				t.Errorf("%s, step %d: %+v, want %v, %v", h.Name, len(all), got, predicted/n, asNow/n)
			}
		}
	}
	f := p.repeat(60*12+70, calls(100, 0))
	if e := f.Predictions[0].SuccessRatioError; e.AsNow != 0 || e.Predicted > 0.001 {
		t.Errorf("after more than an hour without failures: %+v", e)
	}
	if f = p.repeat(60*12+10, calls(0, 0)); !math.IsNaN(f.Predictions[0].SuccessRatioError.Predicted) {
		t.Errorf("after more than an hour without calls: %+v", f)
	}
}

// fakeBreaker opens with the first call at which the failure ratio is at least a limit.
type fakeBreaker float64

func (b fakeBreaker) OpensAfter(c breaker.Projection) (time.Duration, bool) {
	for i := range 1000 {
		after := time.Duration(i) * c.Interval
		if after >= c.Within {
			break
		}
		if c.FailureRatio(after) >= float64(b) {
			return after, true
		}
	}
	return 0, false
}

func TestTimeToOpen(t *testing.T) {
	t.Parallel()
	decline := func(limit float64) events.Forecast {
		p := play(series{}, 0)
		p.repeat(24, calls(100, 0))
		for i := range uint64(30) {
			p.observe(calls(100-i, i))
		}
		p.breaker = fakeBreaker(limit)
		return p.observe(calls(70, 30))
	}
	soon := decline(0.4)
	if in := soon.TimeToOpen; in < 20 || in > 120 {
		t.Errorf("at 0.4: in %v s", in)
	}
	// The prediction must reach the limit just then: the level of the predictions for 30 s and 5 minutes is on both sides.
	if a, b := 1-soon.Predictions[0].SuccessRatio, 1-soon.Predictions[1].SuccessRatio; !(b > 0.4) || (a >= 0.4) != (soon.TimeToOpen <= 35) {
		t.Errorf("at 0.4: in %v s; predicted are %v and %v failures", soon.TimeToOpen, a, b)
	}
	if in := decline(0.25).TimeToOpen; in != 0 {
		t.Errorf("below the limit: in %v s", in)
	}
	if in := decline(0.99).TimeToOpen; !math.IsInf(in, 1) {
		t.Errorf("at 0.99: in %v s", in)
	}

	p := play(series{}, 0)
	p.breaker = fakeBreaker(0.5)
	if f := p.repeat(100, calls(100, 0)); !math.IsInf(f.TimeToOpen, 1) {
		t.Errorf("of a healthy service: in %v s", f.TimeToOpen)
	}
	for i := range uint64(20) { // a recovery
		p.observe(calls(60+2*i, 40-2*i))
	}
	p.breaker = fakeBreaker(0.2)
	if f := p.observe(calls(99, 1)); !math.IsInf(f.TimeToOpen, 1) {
		t.Errorf("of a service that recovers: in %v s", f.TimeToOpen)
	}
	p.breaker = nil
	if f := p.observe(calls(100, 0)); !math.IsNaN(f.TimeToOpen) {
		t.Errorf("of a breaker that is not closed: in %v s", f.TimeToOpen)
	}
}

// The predicted ratio reaches the limit now, and no more after the recovery.
func TestTimeToOpenDuringRecovery(t *testing.T) {
	t.Parallel()
	p := play(series{}, 0)
	p.repeat(24, calls(50, 50))
	for i := range uint64(15) {
		p.observe(calls(50+2*i, 50-2*i))
	}
	p.breaker = fakeBreaker(0.2)
	f := p.observe(calls(80, 20))
	if later := f.Predictions[1].SuccessRatio; f.TimeToOpen != 0 || later < 0.85 {
		t.Errorf("in %v s; predicted are %v successes", f.TimeToOpen, later)
	}
}

func TestRemovedServicesAreDropped(t *testing.T) {
	t.Parallel()
	p := play(series{}, 0)
	p.repeat(24, calls(100, 0))
	p.forecasts.Observe(map[string]forecast.Observation{"other": {Step: calls(1, 0)}})
	if f := p.forecasts.Forecast("svc"); f.Missing != events.ForecastStarting || !math.IsNaN(f.SuccessRatio[0]) {
		t.Errorf("%+v", f)
	}
	wantMissing(t, "added again", p.observe(calls(100, 0)), events.ForecastStarting)
}

// Whatever is counted, values are in their range or not known.
func TestValuesStayInRange(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 0))
	numbers := []uint64{0, 0, 1, 3, 100, 1e6, 1e12}
	in := func(v, low, high float64) bool { return math.IsNaN(v) || v >= low && v <= high }
	for range 50 {
		p := play(series{}, 0)
		p.breaker = fakeBreaker(0.5)
		for range 300 {
			step := calls(numbers[random.IntN(len(numbers))], numbers[random.IntN(len(numbers))])
			step.Elapsed = []time.Duration{0, time.Millisecond, trends.Interval, 20 * time.Second, time.Hour}[min(random.IntN(30), 4)]
			if step.Elapsed == time.Hour && random.IntN(5) > 0 {
				step.Elapsed = trends.Interval
			}
			if random.IntN(20) == 0 {
				step.Durations, step.Bounds = nil, nil
			}
			f := p.observe(step)
			for i, v := range f.Predictions {
				e, l := v.SuccessRatioError, v.LatencyError
				if !in(v.SuccessRatio, 0, 1) || !in(v.Latency, 0, 60) || !in(e.Predicted, 0, 1) || !in(e.AsNow, 0, 1) || !in(l.Predicted, 0, 60) || !in(l.AsNow, 0, 60) {
					t.Fatalf("horizon %d: %+v", i, v)
				}
			}
			if !in(f.Trend, -1, 1) || !in(f.TimeToOpen, 0, 3600) && !math.IsInf(f.TimeToOpen, 1) || !in(f.SuccessRatio[0], 0, 1) {
				t.Fatalf("%+v", f)
			}
		}
	}
}
