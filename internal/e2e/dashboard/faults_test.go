package dashboard

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"cbproxy/internal/e2e/harness"
)

// injectFault injects a fault into the requests of a service.
func injectFault(t testing.TB, p *harness.Proxy, service, body string) {
	t.Helper()
	if created := p.AdminSend(http.MethodPost, "/api/v1/circuit-breakers/"+service+"/faults", body); created.Status != http.StatusCreated {
		t.Fatalf("%+v", created)
	}
}

// useFaults injects a fault into vms_service with the keyboard, after one whose settings the proxy rejects, and ends it. The page has
// the token.
func (d *page) useFaults(p *harness.Proxy) {
	d.t.Helper()
	vms, faults := card("vms_service"), card("vms_service")+" .faults"
	d.press(vms + " [data-inject]")
	d.waitTrue("the dialog has the settings of an abort", shownSettings+` === "kind status share duration header value reason"`)
	d.do(chromedp.Focus(chromedp.CSS(`#fault-dialog [name="kind"]`)), chromedp.KeyEvent("d"))
	d.waitTrue("the dialog has the settings of a delay", shownSettings+` === "kind delay share duration header value reason"`)
	d.fill(`#fault-dialog [name="delay"]`, "11m")
	d.replace(`#fault-dialog [name="duration"]`, "2h"+kb.Enter)
	d.waitText("#fault-dialog .dialog-error", "A value is not valid. Nothing has changed.")
	d.waitText("#fault-delay-fault", "must be a positive duration")
	d.waitText("#fault-duration-fault", "must be a positive duration")
	d.waitFocus("after a value that is not valid", "fault-delay")
	d.checkWidth("with the dialog", 390)
	d.screenshot("fault-dialog")

	d.do(chromedp.Focus(chromedp.CSS(`#fault-dialog [name="kind"]`)), chromedp.KeyEvent("a"))
	d.replace(`#fault-dialog [name="status"]`, "418")
	d.replace(`#fault-dialog [name="share"]`, "100")
	d.fill(`#fault-dialog [name="header"]`, "X-Test")
	d.fill(`#fault-dialog [name="value"]`, "1")
	d.fill(`#fault-dialog [name="reason"]`, `rehearsal <img src=x onerror=alert(1)>`)
	d.replace(`#fault-dialog [name="duration"]`, "10m"+kb.Enter)
	d.waitText(faults, "Injected on purpose")
	d.waitText(faults, `abort 418, all requests with X-Test: 1 “rehearsal <img src=x onerror=alert(1)>” 9 min`)
	d.waitText(vms+" .badges", "fault injected")
	d.waitText("#attention", "fault injected")
	d.waitText("#summary", "1 with injected faults of 3 services")
	d.waitText("#timeline", `vms_service: injected fault f1 started, for 10m0s: abort 418, all requests with X-Test: 1, reason “rehearsal`)
	d.waitText("#timeline", "inject-fault vms_service f1 abort 10m0s")
	d.waitFocus("after the fault was injected", "Inject fault into vms_service")
	if r := p.Send("GET", "/vms/x", "", "X-Test", "1"); r.Status != http.StatusTeapot {
		d.t.Errorf("a request that the fault hits: %+v", r)
	}
	injectFault(d.t, p, "vms_service", `{"kind":"delay","delay":"1.5s","share":0.125,"duration":"1h"}`)
	d.waitText(faults, "delay 1.5s, 12.5 % of the requests")
	d.waitText(vms+" .badges", "2 faults injected")
	d.checkWidth("with faults", 320)
	d.screenshot("faults-light")
	d.do(emulatePreference("color-scheme", "dark"))
	d.screenshot("faults-dark")
	d.do(emulatePreference("color-scheme", "light"))

	for _, left := range []string{"f2", ""} {
		d.press(faults + ` [data-fault]:first-child button`)
		d.fill(`#action-dialog [name="reason"]`, "over"+kb.Enter)
		d.waitTrue("the fault is not shown", `[...document.querySelectorAll("[data-fault]")].map((e) => e.dataset.fault).join() === "`+left+`"`)
	}
	d.waitTrue("no fault is shown", `!document.querySelector("[data-service=vms_service] .faults").checkVisibility()`)
	d.waitFocus("after the last fault was ended", "Open vms_service")
	d.waitText("#timeline", "injected fault f1 ended (abort 418, all requests): removed, reason “over”")
	if r := p.AdminRequest("GET", "/api/v1/circuit-breakers/vms_service/faults", ""); strings.TrimSpace(r.Body) != "[]" {
		d.t.Errorf("faults in force: %s", r.Body)
	}
	injectFault(d.t, p, "vms_service", `{"kind":"reset","duration":"1s"}`)
	d.waitText("#timeline", "injected fault f3 ended (reset, all requests): expired")
}

// shownSettings are the names of the visible fields in the dialog that injects a fault.
const shownSettings = `[...document.querySelectorAll("#fault-dialog :is(input, select)")].filter((e) => e.checkVisibility() && !e.disabled).map((e) => e.name).join(" ")`

// checkWidth checks that the page is not wider than a screen of the given width.
func (d *page) checkWidth(what string, width int64) {
	d.t.Helper()
	d.do(chromedp.EmulateViewport(width, 844))
	if wide := evaluate[int64](d, `document.documentElement.scrollWidth`); wide > width {
		d.t.Errorf("%s: the page is %d pixels wide on a screen of %d", what, wide, width)
	}
	d.screenshot(fmt.Sprintf("%s-%d", strings.ReplaceAll(what, " ", "-"), width))
	d.do(chromedp.EmulateViewport(1280, 1500))
}
