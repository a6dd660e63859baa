package harness

import (
	"net/http"
	"strconv"
	"strings"
)

// Metric returns the value of a series, which is given as in the text format, e.g. a{b="c"}. It fails the test if the
// proxy does not export the series.
func (p *Proxy) Metric(series string) float64 {
	p.T.Helper()
	for line := range strings.Lines(p.Metrics()) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				p.T.Fatal(err)
			}
			return v
		}
	}
	p.T.Fatalf("no series %s", series)
	return 0
}

// Metrics gets the metrics in the text format.
func (p *Proxy) Metrics() string {
	p.T.Helper()
	res, err := http.Get(p.AdminURL + "/metrics")
	return ReadResponse(p.T, res, err).Body
}

// Series returns the value of each series that the proxy exports, by name and labels as in the text format.
func (p *Proxy) Series() map[string]float64 {
	p.T.Helper()
	return ParseSeries(p.Metrics())
}

// ParseSeries parses metrics in the text format, and returns the value of each series by name and labels.
func ParseSeries(text string) map[string]float64 {
	all := map[string]float64{}
	for line := range strings.Lines(text) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			if v, err := strconv.ParseFloat(strings.TrimSpace(line[i:]), 64); err == nil {
				all[line[:i]] = v
			}
		}
	}
	return all
}

// RequestCounts returns the number of a service's requests by status.
func (p *Proxy) RequestCounts(service string) map[string]float64 {
	p.T.Helper()
	counts := map[string]float64{}
	for _, status := range []string{"success", "failure", "rejected", "cancelled"} {
		counts[status] = p.Metric(`enhanced_circuit_breaker_requests_total{service="` + service + `",status="` + status + `"}`)
	}
	return counts
}

// FailureCount returns the number of a service's failures of one error type.
func (p *Proxy) FailureCount(service, errorType string) float64 {
	p.T.Helper()
	return p.Metric(`enhanced_circuit_breaker_failures_total{error_type="` + errorType + `",service="` + service + `"}`)
}
