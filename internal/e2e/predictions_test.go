package e2e

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// decliningUpstream fails a share of its requests that grows from 0 to 0.9 within 90 s, once it declines.
type decliningUpstream struct {
	*httptest.Server
	declinesFrom atomic.Pointer[time.Time]
	failures     atomic.Uint64 // in hundredths; the integer part is the number of failures
}

func startDecliningUpstream(t *testing.T) *decliningUpstream {
	u := &decliningUpstream{}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		from := u.declinesFrom.Load()
		if from == nil {
			return
		}
		share := uint64(min(time.Since(*from).Seconds(), 90))
		if sum := u.failures.Add(share); sum/100 > (sum-share)/100 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(u.Close)
	return u
}

// send sends requests to the service svc until the test ends, 40 in a second unless the machine is busy.
func send(t *testing.T, p *harness.Proxy) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticks := time.NewTicker(25 * time.Millisecond)
		defer ticks.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticks.C:
				if res, err := http.Get(p.URL + "/svc"); err == nil {
					_ = res.Body.Close()
				}
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
}

// TestPredictionsFallBeforeBreakerOpens checks that the metrics announce the opening of a breaker whose upstream fails more and more of
// its requests. It takes two minutes, as there is no prediction in the first one.
func TestPredictionsFallBeforeBreakerOpens(t *testing.T) {
	if testing.Short() {
		t.Skip("takes two minutes")
	}
	t.Parallel()
	u := startDecliningUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: fmt.Sprintf("routes: {svc: {prefix: /svc, upstream: %q, breaker: "+
		"{fail_max: 0, failure_ratio: 0.5, window: 30s, recovery_timeout: 10m}}}\n", u.URL)})
	send(t, p)
	const (
		open, timeToOpen = `enhanced_circuit_breaker_state{service="svc"}`, `cbproxy_time_to_open_seconds{service="svc"}`
		minute           = `cbproxy_success_ratio{service="svc",window="1m"}`
		soon, later      = `cbproxy_success_ratio_predicted{horizon="30s",service="svc"}`, `cbproxy_success_ratio_predicted{horizon="5m",service="svc"}`
		latency, trend   = `cbproxy_latency_predicted_seconds{horizon="5m",service="svc"}`, `cbproxy_success_ratio_trend{service="svc"}`
	)
	if s := p.Series(); s[timeToOpen] != 0 || s[soon] != 0 {
		t.Errorf("predictions at the start: %v, %v", s[timeToOpen], s[soon])
	}
	eventually(t, "there is a prediction", func() bool { _, predicted := p.Series()[soon]; return predicted })
	if s := p.Series(); s[minute] != 1 || s[soon] < 0.99 || s[later] < 0.99 || math.Abs(s[trend]) > 0.01 || !math.IsInf(s[timeToOpen], 1) || !(s[latency] > 0) {
		t.Errorf("of a healthy upstream: %v", s)
	}

	now := time.Now()
	u.declinesFrom.Store(&now)
	announced, least, announcedAt := 0.0, 1.0, now
	eventually(t, "the breaker opens", func() bool {
		s := p.Series()
		if s[open] != 0 {
			return true
		}
		if v, predicted := s[timeToOpen]; predicted && !math.IsInf(v, 1) && announced == 0 {
			announced, announcedAt = v, time.Now()
			if !(s[later] < s[soon] && s[soon] < s[minute] && s[trend] < 0 && v >= 0 && v <= 3600) {
				t.Errorf("when the opening is announced: in %v s; predicted %v, %v; now %v; trend %v", v, s[soon], s[later], s[minute], s[trend])
			}
		}
		least = min(least, s[later])
		return false
	})
	if announced == 0 || least > 0.5 {
		t.Errorf("announced: in %v s; the smallest prediction: %v", announced, least)
	}
	t.Logf("announced %v before the opening, as in %v s", time.Since(announcedAt), announced)
	s := p.Series()
	for series := range s {
		if strings.HasPrefix(series, "cbproxy_success_ratio_") || strings.HasPrefix(series, "cbproxy_latency_predicted") || series == timeToOpen {
			t.Errorf("while the breaker is open: %s", series)
		}
	}
	var forecast struct {
		SuccessRatio map[string]*float64 `json:"success_ratio"`
		TimeToOpen   *float64            `json:"time_to_open"`
		Reason       string
	}
	r := p.AdminRequest("GET", "/api/v1/circuit-breakers/svc/forecast", "")
	if err := json.Unmarshal([]byte(r.Body), &forecast); err != nil || forecast.Reason != "not_closed" || forecast.TimeToOpen != nil || forecast.SuccessRatio["1m"] == nil {
		t.Errorf("%v, %s", err, r.Body)
	}
}

// eventually is harness.Eventually for what takes more than a minute.
func eventually(t *testing.T, description string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); !condition(); time.Sleep(500 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not within 5 minutes: " + description)
		}
	}
}
