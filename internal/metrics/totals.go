package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"cbproxy/internal/events"
)

// Totals is a snapshot of a service's counters.
type Totals struct {
	Requests map[events.Result]uint64
	// Fallbacks counts the responses of all strategies for all reasons.
	Fallbacks uint64
	// Durations[i] counts the requests that took at most Bounds[i] seconds; the last element counts all. Bounds must not be
	// modified.
	Durations []uint64
	Bounds    []float64
}

// Totals returns the counters of all services, as in a scrape.
func (m *Metrics) Totals() map[string]Totals {
	all := map[string]Totals{}
	m.services.Range(func(name, s any) bool {
		all[name.(string)] = s.(*service).totals()
		return true
	})
	return all
}

func (s *service) totals() Totals {
	t := Totals{Requests: map[events.Result]uint64{}, Bounds: buckets}
	for result, c := range s.requests {
		t.Requests[result] = uint64(read(c).GetCounter().GetValue())
	}
	for _, c := range s.fallbacks {
		t.Fallbacks += uint64(read(c).GetCounter().GetValue())
	}
	h := read(s.responseTime.(prometheus.Metric)).GetHistogram()
	for i := range buckets {
		t.Durations = append(t.Durations, h.GetBucket()[i].GetCumulativeCount())
	}
	t.Durations = append(t.Durations, h.GetSampleCount())
	return t
}

// read returns the current value of a metric.
func read(metric prometheus.Metric) *dto.Metric {
	var m dto.Metric
	_ = metric.Write(&m) // fails only for malformed metrics
	return &m
}
