package forecast

import (
	"math"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/trends"
)

const (
	stepsPerMinute = int(time.Minute / trends.Interval)
	// gapSteps is the number of steps without calls after which what is known is outdated: 5 minutes.
	gapSteps = 5 * stepsPerMinute
	// minWindowCalls is the number of calls from which a window has a success ratio, and minCalls the one in the last 5 minutes from
	// which there are predictions.
	minWindowCalls = 10
	minCalls       = 20
)

// Observation is what happened in a service since the previous one.
type Observation struct {
	trends.Step
	// Windows are the numbers of calls in the windows up to the end of the step, by the index in events.ForecastWindows.
	Windows [len(events.ForecastWindows)]Counts
	// Interrupted is whether the breaker has rejected calls in the step because it was open or half-open. The calls that it let
	// through are too few, and are not counted.
	Interrupted bool
	// Breaker is that of the service if it is closed now, otherwise nil.
	Breaker Breaker
}

// Counts are numbers of calls.
type Counts struct{ Success, Failure uint64 }

// ratio returns the success ratio, NaN if there are fewer than least calls.
func (c Counts) ratio(least uint64) float64 {
	if all := c.Success + c.Failure; all >= least {
		return float64(c.Success) / float64(all)
	}
	return math.NaN()
}

// service predicts the calls of one service.
type service struct {
	step    int // the number of the current step
	steps   [stepsPerMinute]trends.Step
	known   int // steps since what is known begins
	gap     int // steps since the last call
	first   Counts
	ratio   ratioModel // used once there are a minute and minCalls of them in first
	begun   bool       // whether that is so
	latency latencyModel
	judges  [len(events.ForecastHorizons)]struct{ ratio, latency judge }

	current events.Forecast
}

func newService() *service {
	s := &service{current: events.NewForecast(events.ForecastStarting)}
	for i, h := range events.ForecastHorizons {
		s.judges[i].ratio, s.judges[i].latency = newJudge(stepsOf(h)), newJudge(stepsOf(h))
	}
	return s
}

// stepsOf returns the number of steps of a horizon.
func stepsOf(h events.ForecastHorizon) int { return int(h.Duration / trends.Interval) }

// observe adds a step.
func (s *service) observe(o *Observation) {
	missed := int((o.Elapsed+trends.Interval/2)/trends.Interval) - 1 // the process was paused
	switch {
	case o.Interrupted || missed >= gapSteps:
		s.step += max(missed, 0) + 1
		s.restart()
	case missed > 0:
		s.forgetPredictions()
		for range missed {
			s.add(&trends.Step{})
		}
		fallthrough
	default:
		s.add(&o.Step)
	}
	s.publish(o)
}

// restart forgets what is known, but not the errors of earlier predictions. Predictions that have not been judged never are.
func (s *service) restart() {
	s.known, s.gap, s.first, s.begun = 0, 0, Counts{}, false
	s.latency = latencyModel{}
	s.forgetPredictions()
}

// forgetPredictions drops the predictions that have not been judged.
func (s *service) forgetPredictions() {
	for i := range s.judges {
		s.judges[i].ratio.forget()
		s.judges[i].latency.forget()
	}
}

// add adds a step to the models.
func (s *service) add(step *trends.Step) {
	s.step++
	s.known++
	s.steps[s.step%len(s.steps)] = *step
	if s.gap++; step.Success+step.Failure > 0 {
		s.gap = 0
	} else if s.gap >= gapSteps {
		s.restart()
		return
	}
	s.latency.observe(step)
	if s.begun {
		s.ratio.observe(step.Success, step.Failure)
		return
	}
	s.first.Success += step.Success
	s.first.Failure += step.Failure
	if s.known >= stepsPerMinute && s.first.Success+s.first.Failure >= minCalls {
		s.ratio.begin(s.first.Success, s.first.Failure)
		s.begun = true
	}
}

// publish judges the predictions for the time of the current step, and makes new ones.
func (s *service) publish(o *Observation) {
	f := events.NewForecast(s.missing(o))
	f.Time = o.Time
	for i, w := range o.Windows {
		f.SuccessRatio[i] = w.ratio(minWindowCalls)
	}
	if f.Missing == "" {
		s.predict(&f, o)
	}
	ratio, latency := s.recent(targetSteps, o.Bounds)
	_, latencyNow := s.recent(stepsPerMinute, o.Bounds)
	for i := range f.Predictions {
		p, j := &f.Predictions[i], &s.judges[i]
		j.ratio.next(s.step, ratio, p.SuccessRatio, f.SuccessRatio[0])
		j.latency.next(s.step, latency, p.Latency, latencyNow)
		p.SuccessRatioError, p.LatencyError = j.ratio.errors.mean(), j.latency.errors.mean()
	}
	s.current = f
}

// missing returns why there are no predictions, "" if there are.
func (s *service) missing(o *Observation) events.ForecastMissing {
	switch recent := o.Windows[1]; {
	case o.Interrupted:
		return events.ForecastNotClosed
	case s.step >= stepsPerMinute && recent.Success+recent.Failure < minCalls:
		return events.ForecastFewCalls
	case !s.begun:
		return events.ForecastStarting
	}
	return ""
}

// predict sets the predictions.
func (s *service) predict(f *events.Forecast, o *Observation) {
	longest := math.NaN()
	if len(o.Bounds) > 0 {
		longest = o.Bounds[len(o.Bounds)-1]
	}
	for i, h := range events.ForecastHorizons {
		f.Predictions[i].SuccessRatio = s.ratio.predict(stepsOf(h))
		f.Predictions[i].Latency = s.latency.predict(stepsOf(h), longest)
	}
	f.Trend = s.ratio.predict(stepsPerMinute) - s.ratio.predict(0)
	if o.Breaker != nil {
		f.TimeToOpen = timeToOpen(&s.ratio, o)
	}
}

// recent returns the success ratio and the 95th percentile of the response times of the last steps; NaN if there are too few calls.
func (s *service) recent(steps int, bounds []float64) (ratio, latency float64) {
	var c Counts
	var durations []uint64
	for i := range steps {
		step := &s.steps[(s.step-i+len(s.steps))%len(s.steps)]
		c.Success += step.Success
		c.Failure += step.Failure
		if step.Durations != nil {
			durations = addDurations(durations, step.Durations)
		}
	}
	latency = math.NaN()
	if calls(durations) >= latencyCalls {
		latency = trends.Quantile(0.95, durations, bounds)
	}
	return c.ratio(minWindowCalls), latency
}
