package dashboard

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"cbproxy/internal/e2e/harness"
)

// servicesOf is a configuration of n services, svc_00 and so on, of which those with a 7 at their end have
// no upstream.
func servicesOf(n int, upstream string) string {
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

// brokenServices is a proxy with n services, of which svc_07 is open and has a queue, svc_17 is forced
// open, svc_03 forced closed, and svc_11 half-open.
func brokenServices(t testing.TB, n int) *harness.Proxy {
	t.Helper()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: servicesOf(n, u.URL())})
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
	// shownFirst are the services of the cards that are seen, in their order.
	shownFirst = `[...document.querySelectorAll(".card")].filter((c) => c.checkVisibility()).map((c) => c.dataset.service).join(" ")`
	// focused tells what has the focus.
	focused = `document.activeElement.getAttribute("aria-label") || document.activeElement.id || document.activeElement.tagName`
)

func TestDashboardOfManyServicesShowsTheBrokenOnesFirst(t *testing.T) {
	t.Parallel()
	p := brokenServices(t, 60)
	d := openPage(p)
	d.shows("#summary", "2 open, 1 half-open, 2 forced of 60 services; their callers get fallbacks.")
	broken := "svc_07 svc_17 svc_11 svc_03"
	if got := evaluate[string](d, shownFirst); got != broken {
		t.Errorf("shown are %s", got)
	}
	if got := evaluate[string](d, `[...document.querySelectorAll("#troubled a")].map((a) => a.textContent).join("; ")`); got != "svc_07 open; svc_17 open, forced; svc_11 half-open; svc_03 closed, forced" {
		t.Errorf("linked are %s", got)
	}
	d.shows("#calm-title", "The other 56 services")
	d.shows("#said", "In trouble: svc_07 open, svc_17 open")
	d.shows("#queue", "svc_07: 1 waiting")
	d.shows(card("svc_11"), "the upstream's answer to probes; the others queue, else static")
	d.picture("many")

	d.fill("#filter", "SVC_5")
	d.shows("#filtered", "10 of 60 services")
	if got := evaluate[string](d, shownFirst); got != "svc_50 svc_52 svc_54 svc_56 svc_58 svc_51 svc_53 svc_55 svc_57 svc_59" {
		t.Errorf("filtered, shown are %s", got)
	}
	d.picture("filtered")
	d.unlock()
	d.press(card("svc_54") + ` [data-state="open"]`) // which goes up then, with the focus
	d.fill(`#action-dialog [name="reason"]`, "drill"+kb.Enter)
	d.becomes("it is among the broken ones", `document.querySelector("#services [data-service=svc_54]") !== null`)
	d.becomes("the keyboard is where it was", `document.activeElement.ariaLabel === "Open svc_54"`)
	d.press(card("svc_54") + ` [data-state="auto"]`) // whose button is gone then
	d.fill(`#action-dialog [name="reason"]`, "over"+kb.Enter)
	d.shows(card("svc_54"), "half-open")
	if got := evaluate[string](d, focused); got != "Open svc_54" {
		t.Errorf("after the release the focus is at %s", got)
	}
	p.Get("/svc_54")
	d.shows("#services-section #calm-services", "svc_54")
	d.do(chromedp.Focus(chromedp.CSS("#filter")), chromedp.KeyEvent(kb.Escape))
	d.becomes("all are shown as before", shownFirst+` === "`+broken+`"`)

	d.press(`#troubled a[href="#card-svc_03"]`)
	if got := evaluate[string](d, focused); got != "card-svc_03" {
		t.Errorf("a link leads to %s", got)
	}
}
