package e2e

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// TestAdaptiveOpeningAndBaseline checks that a breaker opens when half of the calls of an upstream fail that was healthy before, what the
// API, the metrics and the history tell of that, and that what was learnt survives a restart, but not a reset.
func TestAdaptiveOpeningAndBaseline(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	var failing atomic.Bool
	u := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1)%2 == 0 && failing.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(u.Close)
	p := harness.StartProxy(t, harness.Options{Config: fmt.Sprintf("routes: {svc: {prefix: /svc, upstream: %q, breaker: "+
		"{adaptive: {mode: enforce, warmup: {calls: 50, time: 0s}}}}}\n", u.URL)})
	if b := p.Baseline(); b.Warm || b.Explanation != "still learning: 0 of 50 calls" || b.Mode != "enforce" || len(b.Latency) != 3 {
		t.Errorf("at the start: %+v", b)
	}
	for range 400 {
		if r := p.Get("/svc"); r.Status != 200 {
			t.Fatalf("%+v", r)
		}
	}
	before := p.Baseline()
	if !before.Warm || before.Calls != 400 || *before.FailureRatio != 0.01 ||
		before.Explanation != "fails at most 1 in 100 when healthy; opens after 6 failures in a row, or 51 calls of which half fail" {
		t.Errorf("after 400 calls: %+v", before)
	}

	failing.Store(true)
	sent := 0
	for ; p.BreakerState() == "closed" && sent < 100; sent++ {
		p.Get("/svc")
	}
	if sent < 50 || sent > 52 { // 50 calls since the first failure, and the last one is a failure
		t.Errorf("open after %d calls", sent)
	}
	harness.Eventually(t, "the opening is in the history", func() bool { return len(p.History("svc")) == 1 })
	if h := p.History("svc"); h[0].To != "open" || h[0].Cause != "adaptive" {
		t.Errorf("history %+v", h)
	}
	for series, want := range map[string]float64{
		`cbproxy_adaptive_evidence_ratio{service="svc"}`:                   1,
		`cbproxy_adaptive_openings_total{service="svc",verdict="earlier"}`: 0, `cbproxy_adaptive_mode{mode="enforce",service="svc"}`: 1,
	} {
		if got := p.Metric(series); got != want {
			t.Errorf("%s is %v, want %v", series, got, want)
		}
	}

	before = p.Baseline()
	p.Signal(syscall.SIGTERM)
	if status := p.Wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	p.Start()
	after := p.Baseline()
	if !after.Warm || after.Calls != before.Calls || *after.FailureRatio < 0.01 || *after.FailureRatio > 0.02 || p.BreakerState() != "open" {
		t.Errorf("after a restart: %+v, before: %+v", after, before)
	}

	failing.Store(false)
	p.Force("svc", `{"state": "half-open"}`)
	p.Get("/svc")
	if r := p.AdminRequest("POST", "/api/v1/circuit-breakers/svc/baseline/reset", ""); r.Status != 401 {
		t.Errorf("a reset without a token: %+v", r)
	}
	if r := p.AdminRequest("POST", "/api/v1/circuit-breakers/svc/baseline/reset?reason=why", harness.AdminToken); r.Status != 200 || !strings.Contains(r.Body, `"calls":0`) {
		t.Errorf("a reset: %+v", r)
	}
	harness.Eventually(t, "the reset is in the log", func() bool {
		return strings.Contains(p.Log.String(), `"msg":"admin action","action":"reset-baseline"`)
	})
	p.Kill()
	p.Start()
	if b := p.Baseline(); b.Calls != 0 {
		t.Errorf("after a reset and a crash: %+v", b)
	}
}

// TestSlowCallsAsLearnt checks that an upstream that becomes slower than what was learnt of it opens its breaker, and that what was learnt
// survives a restart.
func TestSlowCallsAsLearnt(t *testing.T) {
	t.Parallel()
	var delay atomic.Int64
	u := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(time.Duration(delay.Load())):
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(u.Close)
	p := harness.StartProxy(t, harness.Options{Config: fmt.Sprintf("routes: {svc: {prefix: /svc, upstream: %q, timeout: 2m, breaker: {fail_max: 0, "+
		"algorithm: count, count: {calls: 20}, slow_call_ratio: 0.5, slow_call_duration: auto, recovery_timeout: 1h, adaptive: {warmup: {calls: 50, time: 0s}}}}}\n", u.URL)})
	if b := p.BaselineOfDurations(); b.SlowFrom != 5 || b.Latency["p50"] != nil || b.FailureRatio != nil || b.Explanation != "off: only durations are learnt; a call is slow from 5s on, until 0 of 50 calls are learnt" {
		t.Errorf("at the start: %+v", b)
	}
	for range 100 {
		p.Get("/svc")
	}
	learnt := p.BaselineOfDurations()
	if learnt.SlowFrom < 0.1 || learnt.SlowFrom == 5 || learnt.Latency["p99"] == nil || *learnt.Latency["p50"] > *learnt.Latency["p99"] || learnt.Calls != 0 || learnt.FailureRatio != nil {
		t.Fatalf("after 100 calls: %+v", learnt)
	}
	if r := p.AdminRequest("GET", "/api/v1/circuit-breakers/svc", harness.AdminToken); !strings.Contains(r.Body, fmt.Sprintf(`"slow_call_duration":%v,`, learnt.SlowFrom)) {
		t.Errorf("status: %+v", r)
	}
	delay.Store(int64(3 * learnt.SlowFrom * float64(time.Second))) // it rises twofold at most
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() { p.Get("/svc") })
	}
	calls.Wait()
	harness.Eventually(t, "the opening is in the history", func() bool { return len(p.History("svc")) == 1 })
	if h := p.History("svc"); h[0].To != "open" || h[0].Cause != "slow_call_ratio" {
		t.Errorf("history %+v", h)
	}

	before := p.BaselineOfDurations()
	if got := p.Metric(`cbproxy_baseline_latency_seconds{quantile="0.5",service="svc"}`); math.Abs(got-*before.Latency["p50"]) > 1e-6 {
		t.Errorf("the metric of the p50 is %v, want %v", got, *before.Latency["p50"])
	}
	p.Signal(syscall.SIGTERM)
	if status := p.Wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	p.Start()
	if after := p.BaselineOfDurations(); after.SlowFrom != before.SlowFrom || *after.Latency["p99"] < *before.Latency["p50"] {
		t.Errorf("after a restart: %+v, before: %+v", after, before)
	}
}
