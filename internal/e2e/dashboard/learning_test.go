package dashboard

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"cbproxy/internal/e2e/harness"
)

// startSwitchable starts an upstream that responds with 500 while failing is true.
func startSwitchable(t testing.TB, failing *atomic.Bool) string {
	u := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if failing.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(u.Close)
	return u.URL
}

// TestDashboardShowsWhatWasLearnt checks that a card shows the evidence as failures come, the baseline, and a demotion with its end by a
// reset, and that the cards of other services are as before.
func TestDashboardShowsWhatWasLearnt(t *testing.T) {
	t.Parallel()
	var failing atomic.Bool
	p := harness.StartProxy(t, harness.Options{Config: strings.ReplaceAll(`
routes:
  svc: {prefix: /svc, upstream: URL, breaker: {fail_max: 0, recovery_timeout: 0.2s, adaptive: {mode: enforce, min_calls: 0, warmup: {calls: 50, time: 0s}}}}
  durations: {prefix: /durations, upstream: URL, breaker: {slow_call_ratio: 0.5, slow_call_duration: auto, adaptive: {warmup: {calls: 50, time: 0s}}}}
  plain: {prefix: /plain, upstream: URL, max_in_flight: auto}
`, "URL", startSwitchable(t, &failing))})
	d := openPage(p)
	learning := card("svc") + " .learning"
	d.waitText(learning, "learning, enforce\nevidence 0 %")
	d.waitText(learning, "still learning: 0 of 50 calls")
	d.waitText(card("plain"), "requests in flight\n0, limited to 10 by auto")
	if evaluate[bool](d, `document.querySelector('[data-service="plain"] .learning').checkVisibility()`) {
		t.Error("the card of a service that learns nothing shows what it has learnt")
	}
	const section = `document.querySelector('[data-service="svc"] .learning')`
	height := evaluate[int](d, section+`.offsetHeight`)
	for range 100 {
		p.Get("/svc")
	}
	d.waitText(learning, "when healthy; opens after")
	d.press(learning + " summary")
	d.waitText(learning, "calls learnt\n100")
	d.waitText(learning, "failures when healthy\nat most ")
	d.waitText(learning, "its openings\n0 earlier, 0 by this alone, 0 refuted")
	d.waitText(learning, "durations\np50 ")
	d.press(learning + " summary")

	failing.Store(true)
	for range 3 {
		p.Get("/svc")
	}
	d.waitTrue("the evidence grows", section+`.querySelector("meter").value > 0.2`)
	d.waitTrue("the text has the evidence, too", section+`.innerText.includes("evidence " + Math.round(100 * `+section+`.querySelector("meter").value) + " %")`)
	if grown := evaluate[int](d, section+`.offsetHeight`); grown != height {
		t.Errorf("the height was %d pixels, and is %d", height, grown)
	}
	d.wantNodes(node{"region", "what svc has learnt"}, node{"meter", "evidence for a fault of svc, from 0 to 1"}, node{"DisclosureTriangle", "Baseline of svc"})
	d.screenshot("evidence")
	d.showDurations()
	d.demote(p, &failing)
	d.resetBaseline(p)
}

// showDurations checks what is shown of a service whose breaker learns only durations.
func (d *page) showDurations() {
	d.t.Helper()
	learning := card("durations") + " .learning"
	d.waitText(learning, "slow calls\nfrom 5.0 s, set by auto")
	if shown := d.text(learning); strings.Contains(shown, "evidence") || strings.Contains(shown, "learning") {
		d.t.Errorf("without a mode of learning: %q", shown)
	}
	d.press(learning + " summary")
	d.waitText(learning, "off: only durations are learnt; ")
	if shown := d.text(learning); strings.Contains(shown, "refuted") || strings.Contains(shown, "calls learnt") {
		d.t.Errorf("without a mode of learning: %q", shown)
	}
	d.press(learning + " summary")
}

// demote opens the breaker of svc four times, and lets the probes after that succeed.
func (d *page) demote(p *harness.Proxy, failing *atomic.Bool) {
	d.t.Helper()
	learning := card("svc") + " .learning"
	for n := range 4 {
		failing.Store(true)
		for range 100 {
			if p.BreakerState() != "closed" {
				break
			}
			p.Get("/svc")
		}
		if n == 0 {
			d.waitText("#timeline", "svc closed → open: adaptive")
		}
		failing.Store(false)
		harness.Eventually(d.t, "the breaker is closed after a probe", func() bool { p.Get("/svc"); return p.BreakerState() == "closed" })
	}
	d.waitText(learning, "Demoted to shadow mode.")
	d.waitText(learning, "learning, shadow\nevidence 0 %")
	d.waitText(card("svc")+" .badges", "demoted")
	d.waitText("#attention", "svc closed, demoted")
	d.waitText("#summary", "1 demoted of 3 services; all are served by their upstreams.")
	d.waitText("#timeline", "svc: demoted to shadow mode")
	d.press(learning + " summary")
	d.waitText(learning, "its openings\n0 earlier, 0 by this alone, 4 refuted")
	d.checkContrast("demoted")
	for _, width := range []int64{400, 320} {
		d.checkWidth("with a demotion", width)
	}

	failing.Store(true)
	for range 50 {
		p.Get("/svc")
	}
	d.waitText("#timeline", "svc: would have opened: ")
	if state := p.BreakerState(); state != "closed" {
		d.t.Errorf("state in shadow mode: %s", state)
	}
	failing.Store(false)
}

// resetBaseline resets the baseline of svc with the keyboard.
func (d *page) resetBaseline(p *harness.Proxy) {
	d.t.Helper()
	learning := card("svc") + " .learning"
	d.press(`[data-reset="svc"]`)
	d.fill(`#token-dialog [name="token"]`, harness.AdminToken+kb.Enter)
	d.waitText("#action-dialog", "Reset the baseline of svc")
	d.waitText("#action-dialog", "The breaker forgets what it has learnt")
	d.do(escape)
	if d.text(learning+" .demoted") == "" {
		d.t.Error("the demotion has ended without a reset")
	}
	d.press(`[data-reset="svc"]`)
	d.fill(`#action-dialog [name="reason"]`, "replaced <b>"+kb.Enter)
	d.waitText(learning, "still learning: 0 of 50 calls")
	d.waitText(learning, "learning, enforce")
	d.waitText(learning, "calls learnt\n0")
	d.waitText("#timeline", "reset-baseline svc, reason “replaced <b>”")
	d.waitTrue("the demotion is not shown", `!document.querySelector("[data-service=svc] .demoted").checkVisibility()`)
	d.waitText("#summary", "All 3 services are served by their upstreams.")
	d.waitFocus("after the reset", "Reset baseline of svc")
	harness.Eventually(d.t, "the reset is in the log", func() bool { return strings.Contains(p.Log.String(), `"action":"reset-baseline"`) })
}

// TestCardsOfServicesThatLearnNothingAreAsBefore checks that the parts of a card about learning and overrides take no space unless they
// have something to show.
func TestCardsOfServicesThatLearnNothingAreAsBefore(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: configWithServices(3, u.URL())})
	d := openPage(p)
	d.waitText(card("svc_00"), "closed")
	for _, width := range []int64{1280, 400} {
		d.do(chromedp.EmulateViewport(width, 1500))
		visible := evaluate[string](d, `[...document.querySelectorAll(".card > :not(.spacer), .card .badges > *")].filter((e) => e.checkVisibility()).map((e) => e.className || e.tagName.toLowerCase()).join(" ")`)
		if want := strings.TrimSpace(strings.Repeat("header badge closed row row meter actions ", 3)); visible != want {
			t.Errorf("at a width of %d pixels cards have %q, want %q", width, visible, want)
		}
	}
}
