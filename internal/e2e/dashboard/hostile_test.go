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

// Whatever a service is called, an operator writes and an upstream says, it is text and nothing more.
func TestDashboardBearsHostileTexts(t *testing.T) {
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
	d.shows(card("constructor"), "closed")
	p.Get("/x")
	d.shows(card(long), "open")
	reason, err := json.Marshal(evil + "\u202egnitset\u202c\u2066\x00\n" + strings.Repeat("w", 900))
	if err != nil {
		t.Fatal(err)
	}
	p.Force("constructor", `{"state":"open","reason":`+string(reason)+`}`)
	d.shows(card("constructor"), evil+`\u{202e}gnitset\u{202c}\u{2066}\u{0}\u{a}ww`)
	d.shows(card("constructor"), "more)")
	d.shows("#timeline", evil+`\u{202e}gnitset`)
	d.shows(card(long), "onerror=alert(1)")
	chosen := func(names string) string {
		return `[...document.querySelector("#chart-service").options].map((o) => o.text).join() === "all services,` + names + `"`
	}
	d.becomes("the charts can be chosen", chosen("constructor,"+long))
	if made := evaluate[int](d, `document.querySelectorAll("img, main script, main style").length`); made > 0 {
		t.Errorf("the texts made %d elements", made)
	}
	if evaluate[bool](d, `/[\u202a-\u202e\u2066-\u2069]/.test(document.body.textContent)`) {
		t.Error("a text turns the direction of what is around it")
	}
	d.do(chromedp.EmulateViewport(320, 640))
	if wide := evaluate[int](d, `document.documentElement.scrollWidth`); wide > 320 {
		t.Errorf("on a small phone the page is %d wide", wide)
	}
	d.picture("hostile")

	// What the page shows of a configuration follows it, whatever is being done at the moment.
	d.unlock()
	d.press(card("constructor") + ` [data-state="auto"]`)
	p.ReplaceConfig(strings.Replace(config, "constructor", "valueOf", 1))
	d.shows(card("valueOf"), "closed")
	d.becomes("the other one is gone", `document.querySelector("[data-service=constructor]") === null`)
	d.fill(`#action-dialog [name="reason"]`, "over"+kb.Enter)
	d.shows("#action-dialog .fault", "constructor")
	d.do(escape)
	if got := evaluate[string](d, focused); got != "services-title" {
		t.Errorf("after a dialog whose card is gone the focus is at %s", got)
	}
	d.becomes("its charts can be chosen", chosen("valueOf,"+long))

	p.Kill() // and starts with another configuration
	d.shows("#connection", "Connection lost")
	p.WriteConfig(strings.Replace(config, "constructor", "toString", 1))
	p.Start()
	d.shows(card("toString"), "closed")
	d.shows("#summary", "1 open of 2 services")
	d.becomes("the other one is gone", `document.querySelector("[data-service=valueOf]") === null`)
}

// A browser whose clock is wrong shows what the proxy's says.
func TestDashboardBearsAWrongClock(t *testing.T) {
	t.Parallel()
	p := brokenServices(t, 18)
	for skew, tells := range map[string]string{"3 * 3600e3": "its clock is 3 h 0 min behind this browser's", "-600e3": "its clock is 10 min 0 s ahead of this browser's"} {
		d := openPage(p, with(cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: `
			const real = Date;
			Date = class extends real {
				constructor(...all) { all.length ? super(...all) : super(Date.now()); }
				static now() { return real.now() + ` + skew + `; }
			};`}))
		d.shows("#facts", tells)
		d.shows(card("svc_07"), "in 59 min")
		d.shows(card("svc_17"), "forced, 1 h 59 min left")
		d.shows("#queue", "the oldest for")
		for _, selector := range []string{card("svc_07") + " .row", card("svc_07") + " .error", "#queue"} {
			if text := d.text(selector); !strings.Contains(text, " s") || strings.Contains(text, "min") {
				t.Errorf("with a clock that is wrong by %s ms: %s", skew, text)
			}
		}
	}
}

// A proxy that hangs is as good as lost, and an answer that comes late does nothing to what is asked next.
func TestDashboardBearsAProxyThatHangs(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: servicesOf(2, u.URL())})
	d := openPage(p)
	d.shows(card("svc_00"), "closed")
	d.unlock()
	p.Signal(syscall.SIGSTOP)
	d.press(card("svc_00") + ` [data-state="open"]`)
	d.fill(`#action-dialog [name="reason"]`, "first"+kb.Enter)
	d.do(escape)
	d.press(card("svc_01") + ` [data-state="open"]`)
	p.Signal(syscall.SIGCONT)
	d.shows(card("svc_00"), "first")
	d.shows("#connection", "live")
	if title := d.text("#action-title"); title != "Open svc_01" {
		t.Errorf("the answer to an order that was given before leaves %q", title)
	}

	p.Signal(syscall.SIGSTOP)
	d.fill(`#action-dialog [name="reason"]`, "second"+kb.Enter)
	d.shows("#action-dialog .fault", "There was no answer")
	d.shows("#connection", "Connection lost since")
	p.Signal(syscall.SIGCONT)
	d.shows("#connection", "live")
}
