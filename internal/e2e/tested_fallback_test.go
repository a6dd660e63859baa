package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// countedSeries returns the metrics of a proxy that only requests change.
func countedSeries(p *harness.Proxy) map[string]float64 {
	series := p.Series()
	maps.DeleteFunc(series, func(name string, _ float64) bool {
		ofProxy := strings.HasPrefix(name, "enhanced_circuit_breaker_") || strings.HasPrefix(name, "cbproxy_")
		return !ofProxy || strings.HasPrefix(name, "cbproxy_queue_oldest_age_seconds")
	})
	return series
}

// Tests of the fallback count for nothing: not for the breaker, in a metric, in the record of calls or in a simulation of the access
// log, and nothing is queued, also while earlier requests wait in the queue. A reload ends them.
func TestTestsOfTheFallbackCountForNothing(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	config := strings.Replace(harness.QueueConfigWithBreaker(u, "fail_max: 2, recovery_timeout: 1h", ""), "timeout: 5,", "timeout: 5, fallback_test: true,", 1)
	p := harness.StartProxy(t, harness.Options{Config: "access_log: {enabled: true}\n" + config})
	p.Stop()
	log := new(harness.LogBuffer)
	p.Stdout = log
	p.Start()
	if r := p.Get("/svc/x"); r.Status != http.StatusOK {
		t.Fatalf("%+v", r)
	}
	counted := func(result string) {
		t.Helper()
		harness.Eventually(t, "the request is counted as "+result, func() bool { return p.RequestCounts("svc")[result] == 1 })
	}
	counted("success")
	test := func(state string) {
		t.Helper()
		series, calls, changes, queue := countedSeries(p), summary(recordedCalls(p, "")), len(p.History("svc")), fmt.Sprint(p.Queue())
		for i := range 50 {
			for method, want := range map[string]int{"POST": http.StatusAccepted, "GET": http.StatusServiceUnavailable} {
				r := p.Send(method, "/svc/x", fmt.Sprint("test ", i), "X-Fallback-Test", "1")
				if r.Status != want || r.Header.Get("X-Fallback-Reason") != "test" || r.Header.Get("X-Fallback") == "" || r.BreakerState() != state {
					t.Fatalf("%s, %s: %+v", state, method, r)
				}
			}
		}
		for name, value := range countedSeries(p) {
			if before, found := series[name]; !found || value != before {
				t.Errorf("%s: %s was %v and is %v", state, name, before, value)
			}
		}
		if after := summary(recordedCalls(p, "")); fmt.Sprint(after) != fmt.Sprint(calls) {
			t.Errorf("%s: recorded %v, and before %v", state, after, calls)
		}
		if after := len(p.History("svc")); after != changes {
			t.Errorf("%s: %d state changes, and before %d", state, after, changes)
		}
		if after := fmt.Sprint(p.Queue()); after != queue {
			t.Errorf("%s: the queue is %s and was %s", state, after, queue)
		}
	}
	test("closed")
	u.Kill()
	harness.ForceState(t, p, "open")
	p.MustQueue("earlier")
	counted("rejected")
	harness.Eventually(t, "the request and its delivery are recorded as rejected", func() bool { return len(recordedCalls(p, "")) == 3 })
	test("open")

	harness.Eventually(t, "all requests are logged", func() bool { return strings.Count(log.String(), `"msg":"request"`) >= 202 })
	if n := strings.Count(log.String(), `"reason":"test"`); n != 200 {
		t.Errorf("%d requests are logged with the reason test", n)
	}
	file := filepath.Join(t.TempDir(), "access.log")
	if err := os.WriteFile(file, []byte(log.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	output, err := exec.CommandContext(t.Context(), harness.Binary(), "simulate", "--config", p.ConfigFile, "-o", "json", file).CombinedOutput()
	if !strings.Contains(string(output), `"calls": 2`) {
		t.Errorf("simulation of the access log: %s, %v", output, err)
	}

	harness.ForceState(t, p, "closed")
	p.ReplaceConfig("access_log: {enabled: true}\n" + strings.Replace(config, "fallback_test: true", "fallback_test: false", 1))
	u.Start()
	harness.Eventually(t, "tests are forwarded", func() bool {
		r := p.Send("GET", "/svc/x", "", "X-Fallback-Test", "1")
		return r.Status == http.StatusOK && strings.Contains(r.Body, "X-Fallback-Test:[1]")
	})
}

// The second upstream of a tested fallback gets the request without the field that asks for the test.
func TestTestedFallbackAsksTheSecondUpstream(t *testing.T) {
	t.Parallel()
	first, second := harness.StartUpstream(t), harness.StartRecorder(t)
	second.SetRules(harness.Rule{Status: 200, Body: "from the second upstream"})
	config := strings.Replace(fallbackRoute(first, "upstream", fmt.Sprintf("upstream: {url: %s}", second.URL())), "timeout: 5,", "timeout: 5, fallback_test: true,", 1)
	p := harness.StartProxy(t, harness.Options{Config: config})
	r := p.Send("PUT", "/svc/x", "content", "X-Fallback-Test", "1", "X-Other", "kept")
	checkFallback(t, r, "upstream", 200)
	records := second.Records()
	if r.Body != "from the second upstream" || len(records) != 1 {
		t.Fatalf("%+v, %+v", r, records)
	}
	if h := records[0].Header; h.Get("X-Fallback-Test") != "" || h.Get("X-Other") != "kept" || records[0].BodyText != "content" {
		t.Errorf("%+v", records[0])
	}
}
