package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// page is a tab of a real browser.
type page struct {
	t   testing.TB
	ctx context.Context
}

// openPage opens a proxy's dashboard. Nothing may be asked of anybody else, and nothing may go wrong
// in its scripts.
func openPage(p *proxyProcess) *page {
	p.t.Helper()
	browser, err := exec.LookPath("chromium")
	if err != nil {
		skipUnlessCI(p.t, "a browser", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(browser), chromedp.NoSandbox, chromedp.WindowSize(1280, 1500))
	ctx, stop := chromedp.NewExecAllocator(p.t.Context(), options...)
	p.t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(ctx)
	p.t.Cleanup(cancel)
	err = chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			if !strings.HasPrefix(e.Request.URL, p.admin+"/") {
				p.t.Errorf("the page asks for %s", e.Request.URL)
			}
		case *runtime.EventExceptionThrown:
			p.t.Errorf("a script fails: %s %v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception)
		case *log.EventEntryAdded:
			if e.Entry.Source == log.EntrySourceSecurity {
				p.t.Errorf("the browser says: %s", e.Entry.Text)
			}
		}
	})
	if err != nil {
		p.t.Fatal(err)
	}
	d := &page{p.t, ctx}
	d.do(call(network.Enable), call(runtime.Enable), call(log.Enable), chromedp.Navigate(p.admin+"/"))
	return d
}

// call is a command of the browser's protocol, without parameters.
func call[P, R any](command cdp.Command[P, R]) chromedp.Action[chromedp.Void] {
	return with(command, *new(P))
}

func with[P, R any](command cdp.Command[P, R], parameters P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, command, parameters)
		return err
	})
}

func (d *page) do(steps ...chromedp.Action[chromedp.Void]) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		d.t.Fatal(err)
	}
}

// text is what of an element can be seen, "" if there is none.
func (d *page) text(selector string) string {
	d.t.Helper()
	return evaluate[string](d, fmt.Sprintf(`document.querySelector(%q)?.innerText ?? ""`, selector))
}

// evaluate is the value of JavaScript in the page.
func evaluate[T any](d *page, script string) T {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](script))
	if err != nil {
		d.t.Fatalf("%s: %v", script, err)
	}
	return value
}

// shows waits until an element has a text in it.
func (d *page) shows(selector, text string) {
	d.t.Helper()
	last := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if last = d.text(selector); strings.Contains(last, text) {
			return
		}
	}
	d.picture("missing")
	d.t.Fatalf("%s does not show %q but %q", selector, text, last)
}

// picture keeps what can be seen, where it is asked for: somebody should look at it.
func (d *page) picture(name string) {
	d.t.Helper()
	folder := os.Getenv("PICTURES")
	if folder == "" {
		return
	}
	content, err := chromedp.Run(d.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, name+".png"), content, 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func card(service string) string { return `[data-service="` + service + `"]` }

func TestDashboardShowsWhatHappensAndTakesOrders(t *testing.T) {
	t.Parallel()
	rag, notifier := startUpstream(t), newRecorder(t)
	config := strings.NewReplacer("RAG", rag.url(), "NOTIFIER", notifier.url()).Replace(`routes:
  rag_service: {upstream: RAG, breaker: {fail_max: 3, recovery_timeout: 1h}}
  notifier_service: {upstream: NOTIFIER, breaker: {fail_max: 1, recovery_timeout: 1h}}
  vms_service: {upstream: RAG}
`)
	p := startProxy(t, config)
	d := openPage(p)
	d.shows("#connection", "live")
	d.shows("#status", "healthy")
	d.shows(card("rag_service"), "closed")
	d.shows("#summary", "All 3 services")

	rag.kill()
	p.get("/rag/x")
	d.shows(card("rag_service"), "1 of 3")
	p.get("/rag/x")
	p.get("/rag/x")
	d.shows(card("rag_service"), "open")
	d.shows(card("rag_service"), "consecutive failures")
	d.shows(card("rag_service"), "in 59 min")
	d.shows(card("rag_service"), "connect")
	d.shows("#status", "critical")
	d.shows("#summary", "1 of 3 services: rag_service (open); their callers get fallbacks.")
	d.shows("#timeline", "rag_service closed → open by consecutive failures")
	d.shows(card("rag_service"), "callers get\nstatic")
	eventually(t, "the charts have points", func() bool { return evaluate[int](d, `+document.querySelector("#charts").dataset.points`) > 1 })
	d.picture("open")

	d.orderIsGiven(p)
	d.queueIsWorked(p, notifier)
	d.configurationIsTold(p, config)

	d.do(chromedp.EmulateViewport(390, 844))
	if wide := evaluate[int](d, `document.documentElement.scrollWidth`); wide > 390 {
		t.Errorf("on a phone the page is %d wide", wide)
	}
	d.picture("phone")
	d.do(chromedp.EmulateViewport(1280, 1500), with(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}},
	}))
	if background := evaluate[string](d, `getComputedStyle(document.documentElement).backgroundColor`); background != "rgb(16, 20, 26)" {
		t.Errorf("in the dark it is %s", background)
	}
	d.picture("dark")

	p.kill()
	d.shows("#connection", "Connection lost since")
	d.picture("lost")
	p.start()
	d.shows("#connection", "live")
	d.shows(card("rag_service"), "open") // as it was
}

// orderIsGiven forces a state, by the keyboard alone, with a wrong token first.
func (d *page) orderIsGiven(p *proxyProcess) {
	d.t.Helper()
	button := card("vms_service") + ` [data-state="open"]`
	d.press(button)
	d.fill(`#token-dialog [name="token"]`, "wrong"+kb.Enter)
	d.fill(`#action-dialog [name="reason"]`, "drill")
	d.fill(`#action-dialog [name="duration"]`, "10m"+kb.Enter)
	d.shows("#action-dialog .fault", "The token is wrong")
	d.do(chromedp.KeyEvent(kb.Escape))
	if state := p.health().Services["vms_service"].State; state != "closed" {
		d.t.Errorf("a wrong token made it %s", state)
	}
	d.press(button)
	d.fill(`#token-dialog [name="token"]`, adminToken+kb.Enter)
	d.fill(`#action-dialog [name="reason"]`, `drill <img src=x onerror=alert(1)>`)
	d.fill(`#action-dialog [name="duration"]`, "10m"+kb.Enter)
	d.shows(card("vms_service"), "open")
	d.shows(card("vms_service"), "forced, 9 min")
	d.shows(card("vms_service"), `drill <img src=x onerror=alert(1)>`)
	d.shows("#timeline", "force-state vms_service open 10m0s instance")
	if state := p.health().Services["vms_service"].State; state != "open" {
		d.t.Errorf("it is %s", state)
	}
	d.press(card("vms_service") + ` [data-state="auto"]`)
	d.fill(`#action-dialog [name="reason"]`, "over"+kb.Enter)
	d.shows("#timeline", "half-open")
	if kept := evaluate[string](d, `JSON.stringify(localStorage) + document.cookie`); strings.Contains(kept, adminToken) {
		d.t.Errorf("the token outlives the tab: %s", kept)
	}
}

// queueIsWorked drops one of two queued requests and has the other one delivered.
func (d *page) queueIsWorked(p *proxyProcess, notifier *recorder) {
	d.t.Helper()
	for _, body := range []string{"first", "second"} {
		if r := p.send("POST", "/notify/"+body, body); r.status != 202 {
			d.t.Fatalf("%+v", r)
		}
	}
	d.shows("#queue", "2 waiting")
	d.shows("#queue", "POST /notify/second")
	d.picture("queue")
	_, waiting := p.backlog()
	row := fmt.Sprintf(`[data-id="%s"] td:last-child button`, waiting[0].ID)
	d.press(row + ":nth-of-type(2)")
	d.fill(`#action-dialog [name="reason"]`, "stale"+kb.Enter)
	d.shows("#queue", "1 waiting")
	notifier.start()
	d.t.Cleanup(notifier.kill)
	p.force("notifier_service", `{"state":"half-open"}`)
	notifier.awaitTaken("second")
	d.shows("#queue", "0 waiting")
	d.shows("#queue", "1 delivered")
}

// configurationIsTold makes a fault in the file, which must be shown with its line, and mends it.
func (d *page) configurationIsTold(p *proxyProcess, config string) {
	d.t.Helper()
	p.replace(config + "nonsense: 1\n")
	d.shows("#fault", "The last configuration was refused")
	d.shows("#fault-lines", "nonsense")
	d.picture("refused")
	p.replace(strings.Replace(config, "fail_max: 3", "fail_max: 7", 1))
	d.shows(card("rag_service"), "of 7")
	if !evaluate[bool](d, `document.querySelector("#fault").hidden`) {
		d.t.Error("the fault is still shown")
	}
	d.do(chromedp.Click(chromedp.CSS("summary")))
	d.shows("#config", `"fail_max": 7`)
}

// press focuses an element and presses Enter.
func (d *page) press(selector string) {
	d.t.Helper()
	d.do(chromedp.WaitVisible(chromedp.CSS(selector)), chromedp.Focus(chromedp.CSS(selector)), chromedp.KeyEvent(kb.Enter))
}

// fill types into a field.
func (d *page) fill(selector, text string) {
	d.t.Helper()
	d.do(chromedp.WaitVisible(chromedp.CSS(selector)), chromedp.Focus(chromedp.CSS(selector)), chromedp.KeyEvent(text))
}

func TestDashboardAsksForTheTokenWhereReadsNeedIt(t *testing.T) {
	t.Parallel()
	u := startUpstream(t)
	config := "routes: {svc: {prefix: /svc, upstream: " + u.url() + "}}\n"
	p := startProxy(t, config)
	p.adminKeys("protect_reads: true")
	p.replace(config)
	eventually(t, "reads are protected", func() bool { return p.operate("GET", "/api/v1/config", "").status == 401 })
	d := openPage(p)
	d.fill(`#token-dialog [name="token"]`, "wrong"+kb.Enter)
	d.shows("#connection", "Connection lost")
	eventually(t, "it asks again", func() bool { return evaluate[bool](d, `document.querySelector("#token-dialog").open`) })
	d.fill(`#token-dialog [name="token"]`, adminToken+kb.Enter)
	d.shows("#connection", "live")
	d.shows(card("svc"), "closed")
	d.shows("#config-facts", "since")
	d.press("#unlock") // locks
	if kept := evaluate[string](d, `JSON.stringify(sessionStorage)`); strings.Contains(kept, adminToken) {
		t.Errorf("after locking, the tab keeps %s", kept)
	}
}
