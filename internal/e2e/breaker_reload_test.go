package e2e

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// breakerEditor is a proxy with services whose breakers a test changes one by one, by edits of the configuration file. Each service
// sends its requests to an upstream whose response has the status that is the path, and a Retry-After of an hour.
type breakerEditor struct {
	*harness.Proxy
	upstream string
	breakers map[string]string // the breaker sections by service
}

// startBreakerEditor starts a proxy whose services have breakers that never open.
func startBreakerEditor(t *testing.T, services ...string) *breakerEditor {
	u := harness.StartRawUpstream(t, func(c net.Conn, q *http.Request, _ *bufio.Reader) bool {
		_, err := io.WriteString(c, "HTTP/1.1 "+q.URL.Path[1:]+" X\r\nRetry-After: 3600\r\nContent-Length: 2\r\n\r\n{}")
		return err == nil
	})
	e := &breakerEditor{upstream: u.URL(), breakers: map[string]string{}}
	for _, s := range services {
		e.breakers[s] = "fail_max: 0"
	}
	e.Proxy = harness.StartProxy(t, harness.Options{Config: e.config()})
	return e
}

func (e *breakerEditor) config() string {
	var b strings.Builder
	b.WriteString("defaults: {breaker: {recovery_timeout: 1h}}\nroutes:\n")
	for _, s := range slices.Sorted(maps.Keys(e.breakers)) {
		fmt.Fprintf(&b, "  %s: {prefix: /%s, upstream: %q, breaker: {%s}}\n", s, s, e.upstream, e.breakers[s])
	}
	return b.String()
}

// edit changes the breaker section of a service and waits until the file is applied.
func (e *breakerEditor) edit(service, breaker string) {
	e.T.Helper()
	before := e.Health().Config.Hash
	e.breakers[service] = breaker
	e.ReplaceConfig(e.config())
	harness.Eventually(e.T, "the edit is applied: "+breaker, func() bool {
		c := e.Health().Config
		if c.LastError != nil {
			e.T.Fatal(*c.LastError)
		}
		return c.Hash != before
	})
}

// send sends requests with the statuses, and returns the state and its cause after the last one.
func (e *breakerEditor) send(service string, statuses ...int) string {
	e.T.Helper()
	for _, status := range statuses {
		e.Get(fmt.Sprintf("/%s/%d", service, status))
	}
	s := e.Health().Services[service]
	return strings.TrimSpace(s.State + " " + s.Cause)
}

// expect sends requests with the statuses and checks the state and its cause after the last one.
func (e *breakerEditor) expect(want, service string, statuses ...int) {
	e.T.Helper()
	if got := e.send(service, statuses...); got != want {
		e.T.Fatalf("%s with %s after %v: %s, want %s", service, e.breakers[service], statuses, got, want)
	}
}

// TestEditsChangeTheAlgorithmInEveryState changes the algorithm, by edits of the file, while the breaker is closed, open, half-open,
// recovering and throttling.
func TestEditsChangeTheAlgorithmInEveryState(t *testing.T) {
	t.Parallel()
	e := startBreakerEditor(t, "svc")
	status := func() harness.ServiceHealth { return e.Health().Services["svc"] }
	e.expect("closed", "svc", 500, 500, 500, 500, 500)

	e.edit("svc", "fail_max: 0, algorithm: count, count: {calls: 4}, min_requests: 4, failure_ratio: 0.5")
	e.expect("closed", "svc", 500, 500, 500) // it begins to count
	e.expect("open failure_ratio", "svc", 500)

	before := status()
	e.edit("svc", "fail_max: 0, algorithm: budget, budget: {objective: 0.5, burn_rate: 2}, min_requests: 2")
	if s := status(); s.State != "open" || s.Cause != "failure_ratio" || s.Algorithm != "budget" || !s.RetryAt.Equal(*before.RetryAt) || !s.Since.Equal(before.Since) {
		t.Errorf("edited while open: %+v, before %+v", s, before)
	}
	e.Force("svc", `{"state": "half-open"}`)
	e.expect("closed probes_succeeded", "svc", 200)
	e.expect("closed probes_succeeded", "svc", 500)
	e.expect("open burn_rate", "svc", 500)

	e.Force("svc", `{"state": "half-open"}`)
	e.edit("svc", "fail_max: 0, algorithm: expression, expression: {open_when: 'failures >= 2'}, recovery_ramp: 100h")
	if s := status(); s.State != "half-open" || s.Algorithm != "expression" {
		t.Errorf("edited while half-open: %+v", s)
	}
	e.expect("closed probes_succeeded", "svc", 200)
	if s := status(); s.AdmittedRatio != 0.1 {
		t.Errorf("the ramp does not run: %+v", s)
	}

	e.edit("svc", "fail_max: 0, algorithm: throttle, throttle: {max_rejection: 0.5, min_rps: 0}, window: 1h, recovery_ramp: 100h")
	if s := status(); s.AdmittedRatio != 0.1 || s.Algorithm != "throttle" || s.State != "closed" {
		t.Errorf("edited while recovering: %+v", s)
	}
	if r := e.Get("/svc/200"); r.Status == 503 && !strings.Contains(r.Body, "is recovering") {
		t.Errorf("%+v", r)
	}
	e.edit("svc", "fail_max: 0, algorithm: throttle, throttle: {max_rejection: 0.5, min_rps: 0}, window: 1h")
	if s := status(); s.AdmittedRatio != 1 {
		t.Errorf("the ramp has not ended: %+v", s)
	}
	e.send("svc", 500, 500, 500, 500, 500)
	if s := status(); s.RejectionRatio != 0.5 {
		t.Errorf("nothing is throttled: %+v", s)
	}

	e.edit("svc", "fail_max: 0, failure_ratio: 1, min_requests: 2")
	if s := status(); s.RejectionRatio != 0 || s.Algorithm != "ratio" || s.State != "closed" {
		t.Errorf("edited while throttling: %+v", s)
	}
	e.expect("closed probes_succeeded", "svc", 500)
	e.expect("open failure_ratio", "svc", 500)
	e.edit("svc", "fail_max: 2, algorithm: throttle, throttle: {max_rejection: 0}")
	e.Force("svc", `{"state": "half-open"}`)
	e.expect("closed probes_succeeded", "svc", 200)
	e.expect("open consecutive_failures", "svc", 500, 500) // fail_max counts beside each algorithm
}

// TestEditsChangeOptionsOfAlgorithms changes each option of the algorithms, by edits of the file. What has been counted is kept.
func TestEditsChangeOptionsOfAlgorithms(t *testing.T) {
	t.Parallel()
	e := startBreakerEditor(t, "count", "throttle", "budget", "long", "expression", "ratio")
	requests := func(service string) uint32 { return e.Health().Services[service].Window.Requests }

	const count = "fail_max: 0, algorithm: count, failure_ratio: 0.6, min_requests: 2"
	e.edit("count", count)
	e.expect("closed", "count", 200, 200, 200, 200, 500)
	e.edit("count", count+", count: {calls: 2}")
	e.expect("open failure_ratio", "count", 500) // 2 of the last 2

	const throttle = "fail_max: 0, algorithm: throttle, window: 1h, throttle: {min_rps: %s, success_ratio: %s, aggression: %s, max_rejection: %s}"
	e.edit("throttle", fmt.Sprintf(throttle, "0", "0.1", "1", "0.3"))
	e.send("throttle", 200, 500, 200, 500, 200, 500)
	for _, options := range []struct {
		values []any
		want   float64
	}{
		{[]any{"0", "1", "1", "0.3"}, 0.3}, {[]any{"0", "0.5", "1", "0.3"}, 0}, {[]any{"0", "0.95", "1", "0.2"}, 0.2},
		{[]any{"100000", "0.95", "1", "0.2"}, 0}, {[]any{"0", "0.95", "0.001", "0.2"}, 0}, {[]any{"0", "0.95", "1000", "0.9"}, 0.9}, {[]any{"0", "0.95", "1", "0"}, 0},
	} {
		e.edit("throttle", fmt.Sprintf(throttle, options.values...))
		if got := e.Health().Services["throttle"].RejectionRatio; got < options.want-1e-9 || got > options.want+1e-9 {
			t.Errorf("throttle %v: %v are rejected, want %v", options.values, got, options.want)
		}
	}

	const budget = "fail_max: 0, algorithm: budget, min_requests: 3, budget: {short: %s, long: 1h, objective: %s, burn_rate: %s}"
	e.edit("budget", fmt.Sprintf(budget, "1h", "0.5", "1.9"))
	e.expect("closed", "budget", 500, 500, 200) // two thirds: 1.33
	e.edit("budget", fmt.Sprintf(budget, "1h", "0.4", "1.6"))
	e.expect("closed", "budget", 200) // a half: 0.83
	e.edit("budget", fmt.Sprintf(budget, "100ms", "0.4", "1.6"))
	harness.Eventually(t, "the shorter window has no calls", func() bool { return requests("budget") == 0 })
	e.edit("budget", fmt.Sprintf(budget, "1h", "0.4", "0.8"))
	e.expect("closed", "budget", 500, 500)    // below min_requests in the short window: the dropped calls do not return
	e.expect("open burn_rate", "budget", 500) // all in short; 5 of 7 in long: 1.19
	const long = "fail_max: 0, algorithm: budget, min_requests: 1, budget: {objective: 0.5, burn_rate: 2, short: 100ms, long: %s}"
	e.edit("long", fmt.Sprintf(long, "1h"))
	e.expect("closed", "long", 200)
	harness.Eventually(t, "the short window has no calls", func() bool { return requests("long") == 0 })
	e.expect("closed", "long", 500)
	e.edit("long", fmt.Sprintf(long, "100ms")) // without the success
	harness.Eventually(t, "a failure opens the breaker", func() bool { return e.send("long", 500) == "open burn_rate" })

	const expression = "fail_max: 0, algorithm: expression, expression: {open_when: '%s'}"
	e.edit("expression", fmt.Sprintf(expression, "requests > 99"))
	e.expect("closed", "expression", 500, 500)
	e.edit("expression", fmt.Sprintf(expression, "failures == 2 && requests == 3"))
	e.expect("open expression", "expression", 200)

	e.edit("ratio", "fail_max: 0, failure_ratio: 1, min_requests: 3")
	e.expect("closed", "ratio", 500, 500)
	e.edit("ratio", "fail_max: 0, failure_ratio: 1, min_requests: 3, window: 100ms")
	harness.Eventually(t, "the shorter window has no calls", func() bool { return requests("ratio") == 0 })
	e.edit("ratio", "fail_max: 0, failure_ratio: 1, min_requests: 2, window: 1h")
	e.expect("closed", "ratio", 500)
	e.expect("open failure_ratio", "ratio", 500)
}

// TestFailureRatioLimitIsThatOfTheAlgorithm checks that the metrics of failure_ratio, which an alert compares, are 0 while the algorithm
// does not use it.
func TestFailureRatioLimitIsThatOfTheAlgorithm(t *testing.T) {
	t.Parallel()
	e := startBreakerEditor(t, "svc")
	for _, c := range []struct {
		algorithm string
		limit     float64
	}{{"ratio", 0.9}, {"throttle", 0}, {"count", 0.9}, {"budget, budget: {objective: 0.5, burn_rate: 2}", 0}, {"expression, expression: {open_when: 'false'}", 0}, {"ratio", 0.9}} {
		e.edit("svc", "fail_max: 0, failure_ratio: 0.9, min_requests: 2, algorithm: "+c.algorithm)
		e.send("svc", 500, 200, 200, 200)
		limit, ratio := e.Metric(`cbproxy_failure_ratio_limit{service="svc"}`), e.Metric(`cbproxy_failure_ratio{service="svc"}`)
		if limit != c.limit || (ratio > 0) != (limit > 0) {
			t.Errorf("%s: the failure ratio is %v, the limit %v, want %v", c.algorithm, ratio, limit, c.limit)
		}
	}
}

// TestEditsChangeWhatCounts changes failure_when, ignore_statuses and retry_after, by edits of the file.
func TestEditsChangeWhatCounts(t *testing.T) {
	t.Parallel()
	e := startBreakerEditor(t, "svc")
	failures := func(kind string) float64 { return e.FailureCount("svc", kind) }
	e.send("svc", 200, 404)
	e.edit("svc", "fail_max: 0, failure_when: 'status == 404'")
	e.send("svc", 200, 404)
	if n := failures("expression"); n != 1 {
		t.Errorf("%v failures by failure_when, want 1", n)
	}
	e.edit("svc", "fail_max: 0, failure_when: 'status == 200', ignore_statuses: [404, 500]")
	e.send("svc", 200, 404, 500)
	if n, m := failures("expression"), failures("status"); n != 2 || m != 0 {
		t.Errorf("%v failures by failure_when, want 2; %v by status, want none", n, m)
	}
	e.edit("svc", "fail_max: 0")
	e.send("svc", 200, 404, 500)
	if n, m := failures("expression"), failures("status"); n != 2 || m != 1 {
		t.Errorf("%v failures by failure_when, want 2; %v by status, want 1", n, m)
	}

	// opening returns for how long a Retry-After has opened the breaker, in whole seconds.
	opening := func() time.Duration {
		t.Helper()
		s := e.Health().Services["svc"]
		if s.State != "open" || s.Cause != "retry_after" {
			t.Fatalf("%+v", s)
		}
		return s.RetryAt.Sub(s.Since).Round(time.Second)
	}
	e.edit("svc", "fail_max: 0, retry_after: {after: 2}")
	e.expect("closed", "svc", 503)
	e.expect("open retry_after", "svc", 503)
	if d := opening(); d != 5*time.Minute {
		t.Errorf("open for %v, want 5m, the default of max", d)
	}
	e.edit("svc", "fail_max: 0, retry_after: {after: 1, max: 30m, statuses: [429]}")
	if d := opening(); d != 5*time.Minute {
		t.Errorf("the edit changes the opening to %v", d)
	}
	e.edit("svc", "fail_max: 0, recovery_timeout: 1ms, retry_after: {after: 0}")
	if d := opening(); d != 5*time.Minute {
		t.Errorf("the edit changes the opening to %v", d)
	}
	e.edit("svc", "fail_max: 0, retry_after: {after: 1, max: 30m, statuses: [429]}")
	e.Force("svc", `{"state": "half-open"}`)
	e.expect("closed probes_succeeded", "svc", 200)
	e.expect("closed probes_succeeded", "svc", 503)
	e.expect("open retry_after", "svc", 429)
	if d := opening(); d != 30*time.Minute {
		t.Errorf("open for %v, want 30m", d)
	}
}
