package app

import (
	"math"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/forecast"
	"cbproxy/internal/metrics"
	"cbproxy/internal/trends"
)

// forecasts predicts how the calls of services go on, from the samples of the trends. It is safe for concurrent use.
type forecasts struct {
	trends   *trends.Trends // runs it
	breakers *breaker.Registry
	*forecast.Forecasts

	// openings are the transitions to open of each breaker at the last sample. It is used by observe only.
	openings map[string]uint64
}

func newForecasts(m *metrics.Metrics, breakers *breaker.Registry) *forecasts {
	f := &forecasts{breakers: breakers, Forecasts: forecast.New(), openings: map[string]uint64{}}
	f.trends = trends.New(func() map[string]trends.Totals { return trendTotals(m) }, f.observe)
	return f
}

// observe adds the steps of services.
func (f *forecasts) observe(steps map[string]trends.Step) {
	all := map[string]forecast.Observation{}
	openings := map[string]uint64{}
	for name, b := range f.breakers.All() {
		status := b.Status()
		openings[name] = status.Transitions[events.Open]
		step, sampled := steps[name]
		if !sampled {
			continue
		}
		o := forecast.Observation{Step: step}
		if b.Policy().Mode == breaker.Enforce {
			o.Interrupted = status.State != events.Closed || openings[name] != f.openings[name]
		}
		if status.State == events.Closed {
			o.Breaker = b
		}
		for i, w := range events.ForecastWindows {
			o.Windows[i].Success, o.Windows[i].Failure = f.trends.Counts(name, w.Duration)
		}
		all[name] = o
	}
	f.openings = openings
	f.Observe(all)
}

// of returns the forecast of a service; false if no service has that name. What is predicted for a closed breaker is not shown for one
// that has opened since.
func (f *forecasts) of(service string) (events.Forecast, bool) {
	b := f.breakers.Get(service)
	if b == nil {
		return events.NewForecast(events.ForecastStarting), false
	}
	return f.current(service, b), true
}

// all returns the forecasts of all services.
func (f *forecasts) all() map[string]events.Forecast {
	all := map[string]events.Forecast{}
	for name, b := range f.breakers.All() {
		all[name] = f.current(name, b)
	}
	return all
}

// current returns the forecast of a service with the breaker b.
func (f *forecasts) current(service string, b *breaker.Breaker) events.Forecast {
	now := f.Forecast(service)
	if b.State() == events.Closed {
		return now
	}
	if b.Policy().Mode == breaker.Enforce {
		now.ClearPredictions(events.ForecastNotClosed)
	} else {
		now.TimeToOpen = math.NaN()
	}
	return now
}

// trendTotals returns the counters that trends are computed from.
func trendTotals(m *metrics.Metrics) map[string]trends.Totals {
	all := map[string]trends.Totals{}
	for name, t := range m.Totals() {
		all[name] = trends.Totals{
			Success: t.Requests[events.ResultSuccess], Failure: t.Requests[events.ResultFailure],
			Rejected: t.Requests[events.ResultRejected], Cancelled: t.Requests[events.ResultCancelled],
			Fallbacks: t.Fallbacks, Durations: t.Durations, Bounds: t.Bounds,
		}
	}
	return all
}
