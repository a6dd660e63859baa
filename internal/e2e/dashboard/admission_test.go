package dashboard

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
	"cbproxy/internal/redistest"
)

// startStatusUpstream starts an upstream whose response has the status that ends the path, and a Retry-After of an hour.
func startStatusUpstream(t testing.TB) *harness.RawUpstream {
	return harness.StartRawUpstream(t, func(c net.Conn, q *http.Request, _ *bufio.Reader) bool {
		status := q.URL.Path[strings.LastIndexByte(q.URL.Path, '/')+1:]
		_, err := io.WriteString(c, "HTTP/1.1 "+status+" X\r\nRetry-After: 3600\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{\"load\": \"no\"}")
		return err == nil
	})
}

// TestDashboardShowsAdmission checks that the page shows the algorithm, the share of the requests that it rejects, the share that is
// let through after a breaker has closed, and expression errors, also in shadow mode.
func TestDashboardShowsAdmission(t *testing.T) {
	t.Parallel()
	u := startStatusUpstream(t)
	config := strings.ReplaceAll(`
routes:
  throttled: {prefix: /throttled, upstream: URL, breaker: &throttle {fail_max: 0, algorithm: throttle, window: 1h, throttle: {max_rejection: 0.5, min_rps: 0}}}
  shadow: {prefix: /shadow, upstream: URL, breaker: {<<: *throttle, mode: shadow}}
  recovering: {prefix: /recovering, upstream: URL, breaker: {recovery_ramp: 24h}}
  expression: {prefix: /expression, upstream: URL, breaker: {algorithm: expression, expression: {open_when: 'p95 > 60'}, failure_when: "json('load') > 1"}}
fallbacks: {throttled: {static: {body: {a: 1}}}}
`, "URL", u.URL())
	p := harness.StartProxy(t, harness.Options{Config: config})
	d := openPage(p)
	d.waitText("#summary", "All 4 services are served by their upstreams.")
	d.waitText(card("throttled"), "algorithm\nthrottle")
	d.waitText(card("expression"), "algorithm\nexpression")
	for service, rows := range map[string]string{"throttled": "admission", "recovering": "admission, algorithm", "expression": "expression errors"} {
		for row := range strings.SplitSeq(rows, ", ") {
			if text := d.text(card(service)); strings.Contains(text, row) {
				t.Errorf("%s shows the row %s: %q", service, row, text)
			}
		}
	}

	for range 20 {
		p.Get("/throttled/500")
		p.Get("/shadow/500")
	}
	d.waitText(card("throttled"), "admission\nthrottled: 50 % rejected")
	d.waitText(card("throttled"), "clients get\nadmitted requests: upstream responses; other requests: static")
	d.waitText(card("throttled"), "closed")
	d.waitText(card("shadow"), "admission\nthrottled: 50 % would be rejected")
	d.waitText(card("shadow"), "clients get\nupstream responses")
	d.waitText(card("shadow"), "shadow, would have rejected")

	p.Force("recovering", `{"state": "half-open"}`)
	p.Get("/recovering/200") // the probe
	d.waitText(card("recovering"), "admission\nrecovering: 10 % let through")
	d.waitText(card("recovering"), "clients get\nadmitted requests: upstream responses; other requests: error 503")
	d.waitText("#timeline", "recovering half-open → closed: probes succeeded")

	d.waitText("#timeline", "throttled: throttled, 50 % of the requests are rejected")
	d.waitText("#timeline", "shadow: throttled, 50 % of the requests would be rejected")
	d.waitText("#timeline", "recovering: recovering, 90 % of the requests are rejected")

	p.Get("/expression/200")
	d.waitText(card("expression"), "expression errors\n1")

	d.waitText("#summary", "2 throttled, 1 recovering of 4 services; clients of recovering get errors, the other clients fallbacks.")
	const links = `[...document.querySelectorAll("#attention a")].map((a) => a.textContent).join("; ")`
	if got := evaluate[string](d, links); got != "recovering closed, recovering; shadow closed, throttled; throttled closed, throttled" {
		t.Errorf("links: %s", got)
	}
	d.waitText("#announcement", "Needs attention: recovering closed, recovering, shadow closed, throttled, throttled closed, throttled.")
	for service, want := range map[string]float64{"throttled": 0.5, "recovering": 0.1, "shadow": -1, "expression": -1} { // -1: not shown
		const script = `((bar) => bar.checkVisibility() ? Math.round(100 * bar.value) / 100 : -1)(document.querySelector('%s progress[aria-label^="share"]'))`
		if got := evaluate[float64](d, fmt.Sprintf(script, card(service))); got != want {
			t.Errorf("the bar of %s shows %v, want %v", service, got, want)
		}
	}
	d.screenshot("admission")

	// Forced closed, a breaker rejects nothing.
	p.Force("throttled", `{"state": "closed"}`)
	p.Force("recovering", `{"state": "closed"}`)
	harness.Eventually(t, "no request is rejected", func() bool {
		return !strings.Contains(d.text(card("throttled")), "rejected") && !strings.Contains(d.text(card("recovering")), "let through")
	})
	d.waitText("#timeline", "recovering: no longer recovering")
}

// routesThatOpen configures services whose breakers openAll opens, for one cause each.
const routesThatOpen = `
routes:
  count: {prefix: /count, upstream: URL, breaker: {recovery_timeout: 1h, fail_max: 0, algorithm: count, failure_ratio: 1, min_requests: 2, count: {calls: 2}}}
  budget: {prefix: /budget, upstream: URL, breaker: {recovery_timeout: 1h, fail_max: 0, algorithm: budget, min_requests: 2}}
  expression: {prefix: /expression, upstream: URL, breaker: {recovery_timeout: 1h, fail_max: 0, algorithm: expression, expression: {open_when: 'failures >= 2'}}}
  retry: {prefix: /retry, upstream: URL, breaker: {retry_after: {after: 2, max: 2h}}}
`

// openAll opens the breakers of routesThatOpen, and returns the causes by service, as the page shows them.
func openAll(p *harness.Proxy) map[string]string {
	causes := map[string]string{"count": "failure ratio", "budget": "burn rate", "expression": "expression", "retry": "retry after"}
	for service := range causes {
		path := "/" + service + "/500"
		if service == "retry" {
			path = "/retry/503"
		}
		p.Get(path)
		p.Get(path)
	}
	return causes
}

// TestDashboardShowsCausesOfAlgorithms checks that the page shows why an algorithm, or a Retry-After, has opened a breaker, on its card
// and among the events, also after a restart.
func TestDashboardShowsCausesOfAlgorithms(t *testing.T) {
	t.Parallel()
	u := startStatusUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: strings.ReplaceAll(routesThatOpen, "URL", u.URL())})
	d := openPage(p)
	d.waitText("#summary", "All 4 services")
	causes := openAll(p)
	checkEvents := func() {
		d.waitText("#summary", "4 open of 4 services")
		for service, cause := range causes {
			entry := service + " closed → open: " + cause
			if service != "retry" { // its responses are no failures
				entry += "; status: status 500"
			}
			d.waitText("#timeline", entry)
		}
		d.waitText(card("retry"), "cause\nretry after") // until the time that the upstream has named
		d.waitText(card("retry"), "next probe\nin 5")
	}
	checkEvents()
	for service, cause := range causes {
		d.waitText(card(service), "cause\n"+cause)
	}
	d.screenshot("causes")
	p.Stop()
	d.waitText("#connection", "Connection lost")
	p.Start()
	d.waitText("#connection", "live")
	checkEvents() // from the stored history
}

// TestDashboardOfFleetShowsCausesOfAlgorithms checks that the page of one instance shows why an algorithm, or a Retry-After, of another one
// has opened a breaker: the causes are stored in Redis.
func TestDashboardOfFleetShowsCausesOfAlgorithms(t *testing.T) {
	t.Parallel()
	u, server := startStatusUpstream(t), redistest.Start(t)
	config := strings.ReplaceAll(routesThatOpen, "URL", u.URL()) + "redis: {url: '" + server.URL() + "'}\n"
	fleet := harness.StartFleet(t, 2, harness.Options{Config: config})
	d := openPage(fleet[1])
	d.waitText("#instance", "shared (quorum 1)")
	name := fleet[0].Health().Instance
	for service, cause := range openAll(fleet[0]) {
		d.waitText(card(service), "cause\n"+cause+", detected by "+name)
		d.waitText("#timeline", service+" closed → open: "+cause)
		d.waitText(card(service), "next probe\nin 5")
	}
}
