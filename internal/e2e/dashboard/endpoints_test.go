package dashboard

import (
	"fmt"
	"strings"
	"testing"

	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"cbproxy/internal/e2e/harness"
)

// replaceEndpoints makes the page replace the endpoints of svc, in each answer of the API, with a JavaScript array.
func replaceEndpoints(array string) chromedp.Action[chromedp.Void] {
	return callWith(cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: `
		const parse = JSON.parse, inTenMinutes = new Date(Date.now() + 600e3).toISOString();
		const replace = (o) => { if (o?.services?.svc) o.services.svc.endpoints = ` + array + `; return o; };
		JSON.parse = (text) => replace(parse(text));
		Response.prototype.json = async function () { return replace(parse(await this.text())); };`})
}

// TestDashboardShowsManyEndpoints checks that the list of many endpoints has those that are ejected first, shows texts as text, scrolls
// with the keyboard, and has names for screen readers.
func TestDashboardShowsManyEndpoints(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: configWithEndpoints(u.URL())})
	d := openPage(p, replaceEndpoints(`Array.from({length: 64}, (_, i) => ({url: "http://rag-" + i + ".rag-headless.production.svc.cluster.local:8000", state: "in", until: null, in_flight: i, fail_counter: 0, ejections: 0, last_error: null}))
		.with(63, {url: "http://</bdi><img/src=x/onerror=alert(1)>\u202e", state: "ejected", until: inTenMinutes, in_flight: 0, fail_counter: 5, ejections: 2, last_error: {time: inTenMinutes, type: "connect", detail: "</bdi><img/src=x/onerror=alert(2)>\u202e"}})`))
	d.waitText(card("svc"), "endpoints: 63 of 64 in")
	d.waitText(card("svc")+" .badges", "1 of 64 endpoints ejected")
	d.waitText("#attention", "svc closed, 1 of 64 endpoints ejected")
	d.waitText("#summary", "1 with ejected endpoints of 3 services; all are served by their upstreams.")
	d.waitText(card("svc")+" tbody:nth-child(2)", `http://</bdi><img/src=x/onerror=alert(1)>\u{202e}`) // opened by the ejection
	d.waitText(card("svc")+" tbody:nth-child(2)", "ejected, 9 min")
	d.waitText(card("svc")+" tbody:nth-child(2)", `connect, </bdi><img/src=x/onerror=alert(2)>\u{202e}`)
	d.waitText(card("svc")+" tbody:nth-child(3)", "http://rag-0.rag-headless.production.svc.cluster.local:8000\nin\t0\t0\t0")
	if made := evaluate[int](d, `document.querySelectorAll("img, main script").length`); made > 0 {
		t.Errorf("the texts created %d elements", made)
	}
	const list = `[data-service=svc] .endpoint-list`
	d.do(chromedp.Focus(chromedp.CSS(list)), chromedp.KeyEvent(kb.End))
	d.waitTrue("the list is scrolled to its end", `document.querySelector("`+list+`").scrollTop > 1000`)
	d.wantNodes(node{"region", "endpoints of svc"}, node{"DisclosureTriangle", "Endpoints of svc: 63 of 64 in"}, node{"table", "endpoints of svc, their states and counts"},
		node{"columnheader", "in flight"}, node{"rowheader", "http://rag-5.rag-headless.production.svc.cluster.local:8000"})
	d.checkContrast("endpoints")
	for _, width := range []int64{400, 320} {
		d.checkWidth("with endpoints", width)
	}
}

// TestCardsWithSeveralEndpoints checks that the list of a service whose endpoints are all in is collapsed, that a service with one
// endpoint has none, and that a service without endpoints says why.
func TestCardsWithSeveralEndpoints(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: configWithEndpoints(u.URL())})
	d := openPage(p)
	d.waitText(card("several"), "endpoints: 2 of 2 in")
	if shown := d.text(card("several")); strings.Contains(shown, "127.0.0.1") {
		t.Errorf("the list is open: %s", shown)
	}
	d.press(card("several") + " .endpoints summary")
	d.waitText(card("several")+" .endpoints", "http://127.0.0.1:1\nin\t0\t0\t0")
	if evaluate[bool](d, `document.querySelector("[data-service=one] .endpoints").checkVisibility()`) {
		t.Error("a card with one endpoint shows a list")
	}
	d = openPage(p, replaceEndpoints(`[]`))
	d.waitText(card("svc")+" .endpoints", "no endpoints: DNS has not answered yet")
	if evaluate[bool](d, `document.querySelector("[data-service=svc] .endpoints details").checkVisibility()`) {
		t.Error("a card without endpoints shows a list")
	}
}

// TestDashboardShowsEjections checks that the card and the events of a service show that one of its endpoints is ejected, opens the list
// once, and shows when the endpoint is back.
func TestDashboardShowsEjections(t *testing.T) {
	t.Parallel()
	u, failing := harness.StartUpstream(t), harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: fmt.Sprintf(`routes:
  svc:
    prefix: /svc
    upstream: [%q, %q]
    balance: {policy: round_robin, eject: {fail_max: 2, time: 1s}}
    retry: {attempts: 1, backoff: 1ms, budget: 1}
`, u.URL(), failing.URL())})
	d := openPage(p)
	d.waitText(card("svc"), "endpoints: 2 of 2 in")
	failing.Kill()
	harness.Eventually(t, "the endpoint is ejected", func() bool {
		if r := p.Get("/svc"); r.Status != 200 {
			t.Fatalf("%+v", r)
		}
		return strings.Contains(p.AdminRequest("GET", "/api/v1/circuit-breakers/svc", "").Body, `"state":"ejected"`)
	})
	d.waitText(card("svc"), "endpoints: 1 of 2 in")
	d.waitText(card("svc")+" .badges", "1 of 2 endpoints ejected")
	d.waitText(card("svc")+" tbody:nth-child(2)", failing.URL()+"\nejected, ")
	d.waitText(card("svc")+" tbody:nth-child(2)", "\t0\t2\t1\nconnect, dial tcp")
	d.waitText(card("svc")+" tbody:nth-child(2)", "ejected, to be tried")
	d.waitText("#timeline", "svc: endpoint "+failing.URL()+" ejected until ")
	d.waitText("#announcement", "Needs attention: svc closed, 1 of 2 endpoints ejected.")
	d.screenshot("ejected")
	d.press(card("svc") + " .endpoints summary")
	harness.Eventually(t, "a trial has failed", func() bool {
		p.Get("/svc")
		return strings.Contains(d.text("#timeline"), ": trial failed; connect, dial tcp")
	})
	if evaluate[bool](d, `document.querySelector("[data-service=svc] .endpoints details").open`) {
		t.Error("the list that was closed has opened again")
	}
	failing.Start()
	harness.Eventually(t, "the endpoint is in again", func() bool {
		p.Get("/svc")
		return strings.Contains(d.text(card("svc")), "endpoints: 2 of 2 in")
	})
	d.waitText("#timeline", "svc: endpoint "+failing.URL()+" gets requests again: recovered")
	d.waitText("#summary", "All 1 service are served")
	if shown := d.text(card("svc") + " .badges"); shown != "closed" {
		t.Errorf("badges: %s", shown)
	}
}

// configWithEndpoints returns a configuration with the services svc and one, which have one endpoint, and several, which has two.
func configWithEndpoints(upstream string) string {
	return fmt.Sprintf(`routes:
  svc: {prefix: /svc, upstream: %[1]q}
  one: {prefix: /one, upstream: %[1]q}
  several: {prefix: /several, upstream: [%[1]q, "http://127.0.0.1:1"]}
`, upstream)
}
