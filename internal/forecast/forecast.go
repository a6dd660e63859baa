// Package forecast predicts the success ratio and the latency of services, and when their breakers open, from the calls of the last minutes.
// It sees the numbers of calls and the time, and nothing else, and nothing acts on what it predicts.
package forecast

import (
	"sync"

	"cbproxy/internal/events"
)

// Forecasts has the forecasts of services, about 10 KB for each. It is safe for concurrent use.
type Forecasts struct {
	mu       sync.Mutex
	services map[string]*service // guarded by mu
}

// New returns forecasts of no service.
func New() *Forecasts { return &Forecasts{services: map[string]*service{}} }

// Observe adds a step to each service, and drops the services without one.
func (f *Forecasts) Observe(all map[string]Observation) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name := range f.services {
		if _, ok := all[name]; !ok {
			delete(f.services, name)
		}
	}
	for name, o := range all {
		s := f.services[name]
		if s == nil {
			s = newService()
			f.services[name] = s
		}
		s.observe(&o)
	}
}

// Forecast returns the forecast of a service as of its last step. Nothing is known of a service without one.
func (f *Forecasts) Forecast(service string) events.Forecast {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.services[service]; s != nil {
		return s.current
	}
	return events.NewForecast(events.ForecastStarting)
}
