package e2e

import (
	"net/http"
	"strconv"
	"strings"
)

// metric returns the value of a series, given as in the text format, e.g. a{b="c"}.
func (p *proxyProcess) metric(series string) float64 {
	p.t.Helper()
	for line := range strings.Lines(p.metrics()) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				p.t.Fatal(err)
			}
			return v
		}
	}
	p.t.Fatalf("no series %s", series)
	return 0
}

func (p *proxyProcess) metrics() string {
	p.t.Helper()
	res, err := http.Get(p.admin + "/metrics")
	return read(p.t, res, err).body
}

// series returns every metric, as it stands in the text format.
func (p *proxyProcess) series() map[string]float64 {
	p.t.Helper()
	return seriesIn(p.metrics())
}

func seriesIn(text string) map[string]float64 {
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

// requests returns the counts of a service's requests, by status.
func (p *proxyProcess) requests(service string) map[string]float64 {
	p.t.Helper()
	counts := map[string]float64{}
	for _, status := range []string{"success", "failure", "rejected", "cancelled"} {
		counts[status] = p.metric(`enhanced_circuit_breaker_requests_total{service="` + service + `",status="` + status + `"}`)
	}
	return counts
}

func (p *proxyProcess) failures(service, errorType string) float64 {
	p.t.Helper()
	return p.metric(`enhanced_circuit_breaker_failures_total{error_type="` + errorType + `",service="` + service + `"}`)
}
