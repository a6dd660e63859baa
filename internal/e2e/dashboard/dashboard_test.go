package dashboard

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"cbproxy/internal/e2e/harness"
)

func TestDashboardShowsStateAndExecutesActions(t *testing.T) {
	t.Parallel()
	rag, notifier := harness.StartUpstream(t), harness.NewRecorder(t)
	config := strings.NewReplacer("RAG", rag.URL(), "NOTIFIER", notifier.URL()).Replace(`routes:
  rag_service: {upstream: RAG, breaker: {fail_max: 3, recovery_timeout: 1h}}
  notifier_service: {upstream: NOTIFIER, breaker: {fail_max: 1, recovery_timeout: 1h}}
  vms_service: {upstream: RAG}
`)
	p := harness.StartProxy(t, harness.Options{Config: config})
	d := openPage(p)
	d.waitText("#connection", "live")
	d.waitText("#status", "healthy")
	d.waitText(card("rag_service"), "closed")
	d.waitText("#summary", "All 3 services")

	rag.Kill()
	p.Get("/rag/x")
	d.waitText(card("rag_service"), "1 of 3")
	p.Get("/rag/x")
	p.Get("/rag/x")
	d.waitText(card("rag_service"), "open")
	d.waitText(card("rag_service"), "cause\nconsecutive failures")
	d.waitText(card("rag_service"), "in 59 min")
	d.waitText(card("rag_service"), "connect")
	d.waitText("#status", "critical")
	d.waitText("#summary", "1 open of 3 services; its clients get fallbacks.")
	d.waitText("#timeline", "rag_service closed → open: consecutive failures")
	d.waitText(card("rag_service"), "clients get\nstatic")
	harness.Eventually(t, "the charts have points", func() bool { return evaluate[int](d, `+document.querySelector("#charts").dataset.points`) > 0 })
	d.screenshot("open")

	d.forceStateByKeyboard(p)
	d.useFaults(p)
	d.useQueue(p, notifier)
	d.breakConfig(p, config)

	d.do(chromedp.EmulateViewport(390, 844))
	if wide := evaluate[int](d, `document.documentElement.scrollWidth`); wide > 390 {
		t.Errorf("the page is %d pixels wide on a phone", wide)
	}
	d.screenshot("phone")
	d.do(chromedp.EmulateViewport(1280, 1500), emulatePreference("color-scheme", "dark"))
	if background := evaluate[string](d, `getComputedStyle(document.documentElement).backgroundColor`); background != "rgb(16, 20, 26)" {
		t.Errorf("background in the dark theme: %s", background)
	}
	d.screenshot("dark")

	p.Kill()
	d.waitText("#connection", "Connection lost since")
	d.screenshot("disconnected")
	p.Start()
	d.waitText("#connection", "live")
	d.waitText(card("rag_service"), "open") // the state was persisted
}

// forceStateByKeyboard forces a state with the keyboard, first with a wrong token, then with the right one.
func (d *page) forceStateByKeyboard(p *harness.Proxy) {
	d.t.Helper()
	button := card("vms_service") + ` [data-state="open"]`
	d.press(button)
	d.fill(`#token-dialog [name="token"]`, "wrong"+kb.Enter)
	d.fill(`#action-dialog [name="reason"]`, "drill")
	d.fill(`#action-dialog [name="duration"]`, "10m"+kb.Enter)
	d.waitText("#action-dialog .dialog-error", "The token is wrong")
	d.do(escape)
	if state := p.Health().Services["vms_service"].State; state != "closed" {
		d.t.Errorf("state after a wrong token: %s", state)
	}
	d.press(button)
	d.fill(`#token-dialog [name="token"]`, harness.AdminToken+kb.Enter)
	d.fill(`#action-dialog [name="reason"]`, `drill <img src=x onerror=alert(1)>`)
	d.fill(`#action-dialog [name="duration"]`, "10m"+kb.Enter)
	d.waitText(card("vms_service"), "open")
	d.waitText(card("vms_service"), "forced, 9 min")
	d.waitText(card("vms_service"), `drill <img src=x onerror=alert(1)>`)
	d.waitText("#timeline", "force-state vms_service open 10m0s instance")
	if state := p.Health().Services["vms_service"].State; state != "open" {
		d.t.Errorf("state %s, want open", state)
	}
	d.press(card("vms_service") + ` [data-state="auto"]`)
	d.fill(`#action-dialog [name="reason"]`, "over"+kb.Enter)
	d.waitText("#timeline", "half-open")
	if stored := evaluate[string](d, `JSON.stringify(localStorage) + document.cookie`); strings.Contains(stored, harness.AdminToken) {
		d.t.Errorf("the token is stored beyond the tab: %s", stored)
	}
}

// useQueue drops one of three queued requests, waits until the second is delivered, and drops the third, which is dead.
func (d *page) useQueue(p *harness.Proxy, notifier *harness.Recorder) {
	d.t.Helper()
	for _, body := range []string{"first", "second", "refused"} {
		if r := p.Send("POST", "/notify/"+body, body); r.Status != 202 {
			d.t.Fatalf("%+v", r)
		}
	}
	d.waitText("#queue", "3 waiting")
	d.waitText("#queue", "POST /notify/second")
	d.screenshot("queue")
	_, waiting := p.Queue()
	row := fmt.Sprintf(`[data-id="%s"] td:last-child button`, waiting[0].ID)
	d.press(row + ":nth-of-type(2)")
	d.fill(`#action-dialog [name="reason"]`, "stale"+kb.Enter)
	d.waitText("#queue", "2 waiting")
	d.waitFocus("after the drop", "queue-title")
	notifier.SetRules(harness.Rule{In: "refused", Status: 400})
	notifier.Start()
	d.t.Cleanup(notifier.Kill)
	p.Force("notifier_service", `{"state":"half-open"}`)
	notifier.AwaitDelivered("second")
	d.waitText("#queue", "0 waiting")
	d.waitText("#queue", "1 delivered")
	d.waitText("#dead", "1 dead letter in the queue")
	d.waitText("#queue", "status 400")
	d.press(fmt.Sprintf(`[data-id="%s"] td:last-child button:nth-of-type(2)`, waiting[2].ID))
	d.fill(`#action-dialog [name="reason"]`, "not deliverable"+kb.Enter)
	d.waitTrue("no request is dead", `document.querySelector("#dead").hidden`)
}

// breakConfig makes the configuration file invalid, which the page must show, and corrects it.
func (d *page) breakConfig(p *harness.Proxy, config string) {
	d.t.Helper()
	p.ReplaceConfig(config + "nonsense: 1\n")
	d.waitText("#config-error", "The last configuration was rejected")
	d.waitText("#config-faults", "nonsense")
	d.screenshot("rejected")
	p.ReplaceConfig(strings.Replace(config, "fail_max: 3", "fail_max: 7", 1))
	d.waitText(card("rag_service"), "of 7")
	if !evaluate[bool](d, `document.querySelector("#config-error").hidden`) {
		d.t.Error("the error is still shown")
	}
	d.do(chromedp.Click(chromedp.CSS("details:has(#config) summary")))
	d.waitText("#config", `"fail_max": 7`)
}

func TestDashboardAsksForTokenIfReadsNeedIt(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	config := "routes: {svc: {prefix: /svc, upstream: " + u.URL() + "}}\n"
	p := harness.StartProxy(t, harness.Options{Config: config})
	p.AddAdminKeys("protect_reads: true")
	p.ReplaceConfig(config)
	harness.Eventually(t, "reads are protected", func() bool { return p.AdminRequest("GET", "/api/v1/config", "").Status == 401 })
	d := openPage(p)
	d.fill(`#token-dialog [name="token"]`, "wrong"+kb.Enter)
	d.waitText("#connection", "Connection lost")
	harness.Eventually(t, "the page asks for the token again", func() bool { return evaluate[bool](d, `document.querySelector("#token-dialog").open`) })
	d.fill(`#token-dialog [name="token"]`, harness.AdminToken+kb.Enter)
	d.waitText("#connection", "live")
	d.waitText(card("svc"), "closed")
	d.waitText("#config-version", "since")
	d.press("#unlock") // locks
	if stored := evaluate[string](d, `JSON.stringify(sessionStorage)`); strings.Contains(stored, harness.AdminToken) {
		t.Errorf("stored after locking: %s", stored)
	}
	d.waitTrue("the page asks for the token", `document.querySelector("#token-dialog").open`)
	d.do(escape)
	d.waitText("#connection", "Connection lost")
	const requests = `performance.getEntriesByType("resource").filter((e) => e.name.endsWith("/health")).length`
	d.waitTrue("another request was rejected", fmt.Sprintf("%s > %d", requests, evaluate[int](d, requests)))
	if evaluate[bool](d, `document.querySelector("#token-dialog").open`) {
		t.Error("the page asks for the token again after the dialog was cancelled")
	}
	d.unlock()
	d.waitText("#connection", "live")
}

// TestDashboardShowsShadowRejections checks that a breaker in shadow mode shows what it would have rejected, and that clients
// get the responses of the upstream.
func TestDashboardShowsShadowRejections(t *testing.T) {
	t.Parallel()
	p := harness.StartProxy(t, harness.Options{Config: "routes: {svc: {prefix: /svc, upstream: 'http://127.0.0.1:1', breaker: {mode: shadow, fail_max: 2}}}\n"})
	d := openPage(p)
	d.waitText(card("svc"), "shadow")
	for range 5 {
		p.Get("/svc")
	}
	d.waitText(card("svc"), "shadow, would have rejected 3")
	d.waitText(card("svc"), "upstream responses")
}
