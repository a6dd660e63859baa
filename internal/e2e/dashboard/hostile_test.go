package dashboard

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"

	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"cbproxy/internal/e2e/harness"
)

// TestDashboardEscapesUntrustedTexts checks that names of services, reasons of operators and errors of upstreams are shown as
// text.
func TestDashboardEscapesUntrustedTexts(t *testing.T) {
	t.Parallel()
	const evil = `</bdi><img/src=x/onerror=alert(1)>`
	u := harness.StartUpstream(t)
	garbage := harness.StartRawUpstream(t, harness.RespondWith("HTTP/1.1 "+evil+"\u202e\r\n\r\n", false))
	long := strings.Repeat("x", 63)
	config := strings.NewReplacer("UPSTREAM", u.URL(), "GARBAGE", garbage.URL(), "LONG", long).Replace(`defaults: {breaker: {fail_max: 1}}
routes:
  constructor: {prefix: /c, upstream: UPSTREAM}
  LONG: {prefix: /x, upstream: GARBAGE}
`)
	p := harness.StartProxy(t, harness.Options{Config: config})
	d := openPage(p)
	d.waitText(card("constructor"), "closed")
	p.Get("/x")
	d.waitText(card(long), "open")
	reason, err := json.Marshal(evil + "\u202egnitset\u202c\u2066\x00\n" + strings.Repeat("w", 900))
	if err != nil {
		t.Fatal(err)
	}
	p.Force("constructor", `{"state":"open","reason":`+string(reason)+`}`)
	d.waitText(card("constructor"), evil+`\u{202e}gnitset\u{202c}\u{2066}\u{0}\u{a}ww`)
	d.waitText(card("constructor"), "more)")
	d.waitText("#timeline", evil+`\u{202e}gnitset`)
	injectFault(t, p, "constructor", `{"kind":"reset","duration":"1h","reason":`+string(reason)+`,"match":{"header":"X","value":"\u202e`+evil+`"}}`)
	d.waitText(card("constructor")+" .faults", `with X: \u{202e}`+evil+` “`+evil+`\u{202e}gnitset\u{202c}`)
	d.waitText("#timeline", `with X: \u{202e}`+evil)
	setOverrides(t, p, "constructor", `{"set":{"timeout":"5s"},"duration":"1h","reason":`+string(reason)+`}`)
	d.waitText(card("constructor")+" .overrides", evil+`\u{202e}gnitset\u{202c}`)
	d.waitText("#timeline", `overridden for a while: timeout = 5s, reason “`+evil+`\u{202e}gnitset`)
	d.waitText(card(long), "onerror=alert(1)")
	hasOptions := func(names string) string {
		return `[...document.querySelector("#chart-service").options].map((o) => o.text).join() === "all services,` + names + `"`
	}
	d.waitTrue("the charts have options for both services", hasOptions("constructor,"+long))
	if made := evaluate[int](d, `document.querySelectorAll("img, main script, main style").length`); made > 0 {
		t.Errorf("the texts created %d elements", made)
	}
	if evaluate[bool](d, `/[\u202a-\u202e\u2066-\u2069]/.test(document.body.textContent)`) {
		t.Error("a text changes the direction of the text around it")
	}
	d.do(chromedp.EmulateViewport(320, 640))
	if wide := evaluate[int](d, `document.documentElement.scrollWidth`); wide > 320 {
		t.Errorf("the page is %d pixels wide on a small phone", wide)
	}
	d.screenshot("hostile")

	// The page follows a new configuration while a dialog is open.
	d.unlock()
	d.press(card("constructor") + ` [data-state="auto"]`)
	p.ReplaceConfig(strings.Replace(config, "constructor", "valueOf", 1))
	d.waitText(card("valueOf"), "closed")
	d.waitTrue("the removed service is not shown", `document.querySelector("[data-service=constructor]") === null`)
	d.fill(`#action-dialog [name="reason"]`, "over"+kb.Enter)
	d.waitText("#action-dialog .dialog-error", "constructor")
	d.do(escape)
	d.waitFocus("after a dialog whose card was removed", "services-title")
	d.waitTrue("the charts have an option for the new service", hasOptions("valueOf,"+long))

	p.Kill() // and is restarted with another configuration
	d.waitText("#connection", "Connection lost")
	p.WriteConfig(strings.Replace(config, "constructor", "toString", 1))
	p.Start()
	d.waitText(card("toString"), "closed")
	d.waitText("#summary", "1 open of 2 services")
	d.waitTrue("the removed service is not shown", `document.querySelector("[data-service=valueOf]") === null`)
}

// TestDashboardUsesClockOfProxy checks that a wrong clock of the browser does not affect ages and remaining times.
func TestDashboardUsesClockOfProxy(t *testing.T) {
	t.Parallel()
	p := startBroken(t, 18)
	for skew, text := range map[string]string{"3 * 3600e3": "proxy clock 3 h 0 min behind browser clock", "-600e3": "proxy clock 10 min 0 s ahead of browser clock"} {
		d := openPage(p, callWith(cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: `
			const real = Date;
			Date = class extends real {
				constructor(...all) { all.length ? super(...all) : super(Date.now()); }
				static now() { return real.now() + ` + skew + `; }
			};`}))
		d.waitText("#instance", text)
		d.waitText(card("svc_07"), "in 59 min")
		d.waitText(card("svc_17"), "forced, 1 h 59 min left")
		d.waitText("#queue", "(oldest")
		for _, selector := range []string{card("svc_07") + " .row", card("svc_07") + " .last-failure", "#queue"} {
			if text := d.text(selector); !strings.Contains(text, " s") || strings.Contains(text, "min") {
				t.Errorf("with a clock skew of %s ms: %s", skew, text)
			}
		}
	}
}

// TestDashboardHandlesHangingProxy checks that a proxy that hangs counts as disconnected, and that a late response does not
// affect the next dialog.
func TestDashboardHandlesHangingProxy(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: configWithServices(2, u.URL())})
	d := openPage(p)
	d.waitText(card("svc_00"), "closed")
	d.unlock()
	p.Signal(syscall.SIGSTOP)
	d.press(card("svc_00") + ` [data-state="open"]`)
	d.fill(`#action-dialog [name="reason"]`, "first"+kb.Enter)
	d.do(escape)
	d.press(card("svc_01") + ` [data-state="open"]`)
	p.Signal(syscall.SIGCONT)
	d.waitText(card("svc_00"), "first")
	d.waitText("#connection", "live")
	if title := d.text("#action-title"); title != "Open svc_01" {
		t.Errorf("title of the dialog after the response to a previous action: %q", title)
	}

	p.Signal(syscall.SIGSTOP)
	d.fill(`#action-dialog [name="reason"]`, "second"+kb.Enter)
	d.waitText("#action-dialog .dialog-error", "did not respond in time")
	d.waitText("#connection", "Connection lost since")
	p.Signal(syscall.SIGCONT)
	d.waitText("#connection", "live")
}
