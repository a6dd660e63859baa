package dashboard

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"cbproxy/internal/e2e/harness"
)

func TestDashboardShowsWhatHappensAndTakesOrders(t *testing.T) {
	t.Parallel()
	rag, notifier := harness.StartUpstream(t), harness.NewRecorder(t)
	config := strings.NewReplacer("RAG", rag.URL(), "NOTIFIER", notifier.URL()).Replace(`routes:
  rag_service: {upstream: RAG, breaker: {fail_max: 3, recovery_timeout: 1h}}
  notifier_service: {upstream: NOTIFIER, breaker: {fail_max: 1, recovery_timeout: 1h}}
  vms_service: {upstream: RAG}
`)
	p := harness.StartProxy(t, harness.Options{Config: config})
	d := openPage(p)
	d.shows("#connection", "live")
	d.shows("#status", "healthy")
	d.shows(card("rag_service"), "closed")
	d.shows("#summary", "All 3 services")

	rag.Kill()
	p.Get("/rag/x")
	d.shows(card("rag_service"), "1 of 3")
	p.Get("/rag/x")
	p.Get("/rag/x")
	d.shows(card("rag_service"), "open")
	d.shows(card("rag_service"), "consecutive failures")
	d.shows(card("rag_service"), "in 59 min")
	d.shows(card("rag_service"), "connect")
	d.shows("#status", "critical")
	d.shows("#summary", "1 open of 3 services; its callers get fallbacks.")
	d.shows("#timeline", "rag_service closed → open by consecutive failures")
	d.shows(card("rag_service"), "callers get\nstatic")
	harness.Eventually(t, "the charts have points", func() bool { return evaluate[int](d, `+document.querySelector("#charts").dataset.points`) > 0 })
	d.picture("open")

	d.orderIsGiven(p)
	d.queueIsWorked(p, notifier)
	d.configurationIsTold(p, config)

	d.do(chromedp.EmulateViewport(390, 844))
	if wide := evaluate[int](d, `document.documentElement.scrollWidth`); wide > 390 {
		t.Errorf("on a phone the page is %d wide", wide)
	}
	d.picture("phone")
	d.do(chromedp.EmulateViewport(1280, 1500), prefers("color-scheme", "dark"))
	if background := evaluate[string](d, `getComputedStyle(document.documentElement).backgroundColor`); background != "rgb(16, 20, 26)" {
		t.Errorf("in the dark it is %s", background)
	}
	d.picture("dark")

	p.Kill()
	d.shows("#connection", "Connection lost since")
	d.picture("lost")
	p.Start()
	d.shows("#connection", "live")
	d.shows(card("rag_service"), "open") // as it was
}

// orderIsGiven forces a state, by the keyboard alone, with a wrong token first.
func (d *page) orderIsGiven(p *harness.Proxy) {
	d.t.Helper()
	button := card("vms_service") + ` [data-state="open"]`
	d.press(button)
	d.fill(`#token-dialog [name="token"]`, "wrong"+kb.Enter)
	d.fill(`#action-dialog [name="reason"]`, "drill")
	d.fill(`#action-dialog [name="duration"]`, "10m"+kb.Enter)
	d.shows("#action-dialog .fault", "The token is wrong")
	d.do(escape)
	if state := p.Health().Services["vms_service"].State; state != "closed" {
		d.t.Errorf("a wrong token made it %s", state)
	}
	d.press(button)
	d.fill(`#token-dialog [name="token"]`, harness.AdminToken+kb.Enter)
	d.fill(`#action-dialog [name="reason"]`, `drill <img src=x onerror=alert(1)>`)
	d.fill(`#action-dialog [name="duration"]`, "10m"+kb.Enter)
	d.shows(card("vms_service"), "open")
	d.shows(card("vms_service"), "forced, 9 min")
	d.shows(card("vms_service"), `drill <img src=x onerror=alert(1)>`)
	d.shows("#timeline", "force-state vms_service open 10m0s instance")
	if state := p.Health().Services["vms_service"].State; state != "open" {
		d.t.Errorf("it is %s", state)
	}
	d.press(card("vms_service") + ` [data-state="auto"]`)
	d.fill(`#action-dialog [name="reason"]`, "over"+kb.Enter)
	d.shows("#timeline", "half-open")
	if kept := evaluate[string](d, `JSON.stringify(localStorage) + document.cookie`); strings.Contains(kept, harness.AdminToken) {
		d.t.Errorf("the token outlives the tab: %s", kept)
	}
}

// queueIsWorked drops one of three queued requests, has one delivered, and drops the one that is dead.
func (d *page) queueIsWorked(p *harness.Proxy, notifier *harness.Recorder) {
	d.t.Helper()
	for _, body := range []string{"first", "second", "refused"} {
		if r := p.Send("POST", "/notify/"+body, body); r.Status != 202 {
			d.t.Fatalf("%+v", r)
		}
	}
	d.shows("#queue", "3 waiting")
	d.shows("#queue", "POST /notify/second")
	d.picture("queue")
	_, waiting := p.Queue()
	row := fmt.Sprintf(`[data-id="%s"] td:last-child button`, waiting[0].ID)
	d.press(row + ":nth-of-type(2)")
	d.fill(`#action-dialog [name="reason"]`, "stale"+kb.Enter)
	d.shows("#queue", "2 waiting")
	if got := evaluate[string](d, focused); got != "queue-title" {
		d.t.Errorf("after the drop the focus is at %s", got)
	}
	notifier.SetRules(harness.Rule{In: "refused", Status: 400})
	notifier.Start()
	d.t.Cleanup(notifier.Kill)
	p.Force("notifier_service", `{"state":"half-open"}`)
	notifier.AwaitDelivered("second")
	d.shows("#queue", "0 waiting")
	d.shows("#queue", "1 delivered")
	d.shows("#dead", "1 dead letter in the queue")
	d.shows("#queue", "status 400")
	d.press(fmt.Sprintf(`[data-id="%s"] td:last-child button:nth-of-type(2)`, waiting[2].ID))
	d.fill(`#action-dialog [name="reason"]`, "in vain"+kb.Enter)
	d.becomes("none is dead", `document.querySelector("#dead").hidden`)
}

// configurationIsTold makes a fault in the file, which must be shown with its line, and mends it.
func (d *page) configurationIsTold(p *harness.Proxy, config string) {
	d.t.Helper()
	p.ReplaceConfig(config + "nonsense: 1\n")
	d.shows("#fault", "The last configuration was refused")
	d.shows("#fault-lines", "nonsense")
	d.picture("refused")
	p.ReplaceConfig(strings.Replace(config, "fail_max: 3", "fail_max: 7", 1))
	d.shows(card("rag_service"), "of 7")
	if !evaluate[bool](d, `document.querySelector("#fault").hidden`) {
		d.t.Error("the fault is still shown")
	}
	d.do(chromedp.Click(chromedp.CSS("details:has(#config) summary")))
	d.shows("#config", `"fail_max": 7`)
}

func TestDashboardAsksForTheTokenWhereReadsNeedIt(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	config := "routes: {svc: {prefix: /svc, upstream: " + u.URL() + "}}\n"
	p := harness.StartProxy(t, harness.Options{Config: config})
	p.AddAdminKeys("protect_reads: true")
	p.ReplaceConfig(config)
	harness.Eventually(t, "reads are protected", func() bool { return p.AdminRequest("GET", "/api/v1/config", "").Status == 401 })
	d := openPage(p)
	d.fill(`#token-dialog [name="token"]`, "wrong"+kb.Enter)
	d.shows("#connection", "Connection lost")
	harness.Eventually(t, "it asks again", func() bool { return evaluate[bool](d, `document.querySelector("#token-dialog").open`) })
	d.fill(`#token-dialog [name="token"]`, harness.AdminToken+kb.Enter)
	d.shows("#connection", "live")
	d.shows(card("svc"), "closed")
	d.shows("#config-facts", "since")
	d.press("#unlock") // locks
	if kept := evaluate[string](d, `JSON.stringify(sessionStorage)`); strings.Contains(kept, harness.AdminToken) {
		t.Errorf("after locking, the tab keeps %s", kept)
	}
	d.becomes("it asks once more", `document.querySelector("#token-dialog").open`)
	d.do(escape)
	d.shows("#connection", "Connection lost")
	const answers = `performance.getEntriesByType("resource").filter((e) => e.name.endsWith("/health")).length`
	d.becomes("it was refused again", fmt.Sprintf("%s > %d", answers, evaluate[int](d, answers)))
	if evaluate[bool](d, `document.querySelector("#token-dialog").open`) {
		t.Error("it asks again who did not want to answer")
	}
	d.unlock()
	d.shows("#connection", "live")
}

// A breaker that is tried out tells what it would have done, and that callers are as without it.
func TestDashboardTellsWhatAShadowWouldHaveRefused(t *testing.T) {
	t.Parallel()
	p := harness.StartProxy(t, harness.Options{Config: "routes: {svc: {prefix: /svc, upstream: 'http://127.0.0.1:1', breaker: {mode: shadow, fail_max: 2}}}\n"})
	d := openPage(p)
	d.shows(card("svc"), "shadow")
	for range 5 {
		p.Get("/svc")
	}
	d.shows(card("svc"), "shadow, would have refused 3")
	d.shows(card("svc"), "the upstream's own answers")
}
