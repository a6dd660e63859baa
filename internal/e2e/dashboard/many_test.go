package dashboard

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"cbproxy/internal/e2e/harness"
)

// configWithServices returns a configuration with n services, svc_00, svc_01 and so on. The upstream of services whose name
// ends in 7 is unreachable.
func configWithServices(n int, upstream string) string {
	var b strings.Builder
	b.WriteString("fallbacks: {kept: {try: [queue, static], queue: {status: 202, body: {}}, static: {status: 200, body: {}}}}\n")
	b.WriteString("defaults: {fallback: kept, breaker: {fail_max: 2, recovery_timeout: 1h}}\nroutes:\n")
	for i := range n {
		url := upstream
		if i%10 == 7 {
			url = "http://127.0.0.1:1"
		}
		fmt.Fprintf(&b, "  svc_%02d: {prefix: /svc_%02d, upstream: %q, priority: %d}\n", i, i, url, 1+i%2)
	}
	return b.String()
}

// startBroken starts a proxy with n services: svc_07 is open and has a queued request, svc_17 is forced open, svc_03 is forced
// closed, and svc_11 is half-open.
func startBroken(t testing.TB, n int) *harness.Proxy {
	t.Helper()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: configWithServices(n, u.URL())})
	p.Get("/svc_07")
	p.Get("/svc_07")
	if r := p.Send("POST", "/svc_07/kept", "x"); r.Status != 202 {
		t.Fatalf("%+v", r)
	}
	p.Force("svc_17", `{"state":"open","reason":"vendor maintenance","duration":"2h"}`)
	p.Force("svc_03", `{"state":"closed","reason":"we know better"}`)
	p.Force("svc_11", `{"state":"half-open"}`)
	return p
}

const (
	// visibleServices returns the services of the visible cards in their order.
	visibleServices = `[...document.querySelectorAll(".card")].filter((c) => c.checkVisibility()).map((c) => c.dataset.service).join(" ")`
	// focused identifies the element that has the focus.
	focused = `document.activeElement.getAttribute("aria-label") || document.activeElement.id || document.activeElement.tagName`
)

func TestDashboardShowsBrokenServicesFirst(t *testing.T) {
	t.Parallel()
	p := startBroken(t, 60)
	d := openPage(p)
	d.waitText("#summary", "2 open, 1 half-open, 2 forced of 60 services; their clients get fallbacks.")
	broken := "svc_07 svc_17 svc_11 svc_03"
	if got := evaluate[string](d, visibleServices); got != broken {
		t.Errorf("visible: %s", got)
	}
	if got := evaluate[string](d, `[...document.querySelectorAll("#attention a")].map((a) => a.textContent).join("; ")`); got != "svc_07 open; svc_17 open, forced; svc_11 half-open; svc_03 closed, forced" {
		t.Errorf("links: %s", got)
	}
	d.waitText("#normal-title", "The other 56 services")
	d.waitText("#announcement", "Needs attention: svc_07 open, svc_17 open")
	d.waitText("#queue", "svc_07: 1 waiting")
	d.waitText(card("svc_11"), "probes: upstream responses; other requests: queue, else static")
	d.screenshot("many")

	d.fill("#filter", "SVC_5")
	d.waitText("#filter-count", "10 of 60 services")
	if got := evaluate[string](d, visibleServices); got != "svc_50 svc_52 svc_54 svc_56 svc_58 svc_51 svc_53 svc_55 svc_57 svc_59" {
		t.Errorf("visible with filter: %s", got)
	}
	d.screenshot("filtered")
	d.unlock()
	d.press(card("svc_54") + ` [data-state="open"]`) // its card moves up and keeps the focus
	d.fill(`#action-dialog [name="reason"]`, "drill"+kb.Enter)
	d.waitTrue("the service is among the broken ones", `document.querySelector("#services [data-service=svc_54]") !== null`)
	d.waitTrue("the button keeps the focus", `document.activeElement.ariaLabel === "Open svc_54"`)
	d.press(card("svc_54") + ` [data-state="auto"]`) // this button disappears
	d.fill(`#action-dialog [name="reason"]`, "over"+kb.Enter)
	d.waitText(card("svc_54"), "half-open")
	d.waitFocus("after the release", "Open svc_54")
	p.Get("/svc_54")
	d.waitText("#services-section #normal-services", "svc_54")
	d.do(chromedp.Focus(chromedp.CSS("#filter")), chromedp.KeyEvent(kb.Escape))
	d.waitTrue("the filter is cleared", visibleServices+` === "`+broken+`"`)

	d.press(`#attention a[href="#card-svc_03"]`)
	d.waitFocus("after following a link", "card-svc_03")
}
