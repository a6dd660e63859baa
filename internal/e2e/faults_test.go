package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// injectFault injects a fault into the requests of svc and returns its ID.
func injectFault(p *harness.Proxy, body string) string {
	p.T.Helper()
	r := callAdmin(p, injectOperation, "svc", "", withBody(body))
	var f struct{ ID string }
	if err := json.Unmarshal([]byte(r.Body), &f); err != nil || r.Status != http.StatusCreated {
		p.T.Fatalf("%+v, %v", r, err)
	}
	return f.ID
}

// faultIDs returns the IDs of the faults of svc that health shows.
func faultIDs(p *harness.Proxy) string {
	p.T.Helper()
	var health struct {
		Services map[string]struct{ Faults []struct{ ID string } }
	}
	r := callAdmin(p, "GET /api/v1/circuit-breakers/health", "", "", nil)
	if err := json.Unmarshal([]byte(r.Body), &health); err != nil || health.Services["svc"].Faults == nil {
		p.T.Fatalf("%+v, %v", r, err)
	}
	var ids []string
	for _, f := range health.Services["svc"].Faults {
		ids = append(ids, f.ID)
	}
	return strings.Join(ids, " ")
}

// TestFaultsEndWithTheirTimeAndWithTheProcess checks that faults survive reloads, end after their duration, do not survive a
// restart, and are in log and metrics.
func TestFaultsEndWithTheirTimeAndWithTheProcess(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	config := harness.RouteConfig(u, 100)
	p := harness.StartProxy(t, harness.Options{Config: config})
	long := injectFault(p, `{"kind":"abort","status":418,"duration":"1h","reason":"why"}`)
	short := injectFault(p, `{"kind":"cut","duration":0.3}`)
	harness.Eventually(t, "the short fault has ended", func() bool { return faultIDs(p) == long })
	p.ReplaceConfig(config + "shutdown_timeout: 29s\n")
	harness.Eventually(t, "the configuration is active", func() bool {
		return strings.Contains(p.AdminRequest("GET", "/api/v1/config", "").Body, `"shutdown_timeout":"29s"`)
	})
	if r := p.Get("/svc/"); r.Status != 418 || faultIDs(p) != long {
		t.Errorf("%+v, faults %s", r, faultIDs(p))
	}
	for series, want := range map[string]float64{
		`cbproxy_faults_active{service="svc"}`: 1, `cbproxy_faults_injected_total{kind="abort",service="svc"}`: 1, `cbproxy_faults_injected_total{kind="cut",service="svc"}`: 0,
	} {
		if got := p.Metric(series); got != want {
			t.Errorf("%s is %v, want %v", series, got, want)
		}
	}
	p.Signal(syscall.SIGTERM)
	if status := p.Wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	for _, line := range []string{
		`"msg":"fault injection started","service":"svc","fault":"` + long + `","kind":"abort","status":418,"share":1,`,
		`"msg":"admin action","action":"inject-fault"`, `"msg":"fault injection ended","service":"svc","fault":"` + short + `","kind":"cut","cause":"expired"`,
	} {
		if !strings.Contains(p.Log.String(), line) {
			t.Errorf("the log does not contain %s:\n%s", line, p.Log.String())
		}
	}
	p.Start()
	if r := p.Get("/svc/"); r.Status != 200 || faultIDs(p) != "" {
		t.Errorf("after a restart: %+v, faults %s", r, faultIDs(p))
	}
	injectFault(p, `{"kind":"reset","duration":"1h"}`)
	p.ReplaceConfig(strings.Replace(config, "{svc: {prefix: /svc", "{other: {prefix: /svc", 1))
	harness.Eventually(t, "the fault of the removed service has ended", func() bool {
		return strings.Contains(p.Log.String(), `"kind":"reset","cause":"service_removed"`)
	})
	if r := p.Get("/svc/"); r.Status != 200 || strings.Contains(p.Metrics(), `cbproxy_faults_active{service="svc"}`) {
		t.Errorf("after the service was removed: %+v", r)
	}
}

// TestShutdownDoesNotWaitForDelays checks that requests which wait for an injected delay are aborted after shutdown_timeout, and sent
// at once if the fault is ended before.
func TestShutdownDoesNotWaitForDelays(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	for _, end := range []bool{false, true} {
		t.Run(fmt.Sprint(end), func(t *testing.T) {
			t.Parallel()
			timeout := "shutdown_timeout: 0.3\n"
			if end {
				timeout = "shutdown_timeout: 1h\n"
			}
			p := harness.StartProxy(t, harness.Options{Config: timeout + harness.RouteConfig(u, 1000)})
			id := injectFault(p, `{"kind":"delay","delay":"10m","duration":"1h"}`)
			response := startRequest(t, p, "/svc/")
			p.Signal(syscall.SIGTERM)
			if end {
				harness.Eventually(t, "the proxy is not ready", func() bool { return callAdmin(p, "GET /readyz", "", "", nil).Status == 503 })
				if res, err := http.DefaultClient.Do(adminRequest(p, endOperation, "svc", id)); err == nil { // unless the proxy has ended before
					_ = res.Body.Close()
				}
			}
			if r := <-response; (r.Status == 200) != end {
				t.Errorf("the request in flight: %+v", r)
			}
			if status := p.Wait(); status != 0 {
				t.Errorf("exit status %d", status)
			}
		})
	}
}
