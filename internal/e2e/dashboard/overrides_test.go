package dashboard

import (
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"cbproxy/internal/e2e/harness"
)

// setOverrides overrides keys of a service.
func setOverrides(t testing.TB, p *harness.Proxy, service, body string) {
	t.Helper()
	if set := p.AdminSend(http.MethodPut, "/api/v1/circuit-breakers/"+service+"/overrides", body); set.Status != http.StatusOK {
		t.Fatalf("%+v", set)
	}
}

// overriddenKeys returns the keys in the list on the card of svc_05, and whether they can be ended alone.
const overriddenKeys = `[...document.querySelectorAll("[data-service=svc_05] .overrides [data-key]")].map((e) => e.dataset.key + (e.querySelector("button") ? " End" : "")).join(", ")`

// TestDashboardOverridesKeys overrides keys of a service with the keyboard, and ends that, on a page with so many services that those
// which need no attention are collapsed.
func TestDashboardOverridesKeys(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	config := strings.Replace(configWithServices(14, u.URL()), "fail_max: 2", "fail_max: 5", 1)
	p := harness.StartProxy(t, harness.Options{Config: config})
	d := openPage(p)
	d.waitText("#summary", "All 14 services are served by their upstreams.")
	d.unlock()
	d.press("#normal > summary")
	d.overrideWithFaults()

	const hostile = `disk <img src=x onerror=alert(1)>`
	overrides := card("svc_05") + " .overrides"
	d.replace("#override-value", "10")
	d.replace("#override-duration", "2h")
	d.fill("#override-reason", hostile+kb.Enter)
	d.waitText(overrides, "breaker.fail_max = 10, otherwise 5 “"+hostile+"” from 127.0.0.1")
	d.waitText(overrides, "1 h 59 min left")
	d.waitText(card("svc_05"), "0 of 10")
	d.waitText(card("svc_05")+" .badges", "1 key overridden")
	d.waitText("#attention", "svc_05 closed, 1 key overridden")
	d.waitText("#summary", "1 with overridden keys of 14 services")
	d.waitText("#timeline", "svc_05: overridden for a while: breaker.fail_max = 10, reason “"+hostile+"”")
	d.waitFocus("after a key was overridden", "Override keys of svc_05")
	d.press("#normal > summary")
	d.waitTrue("the other cards are folded", visibleServices+` === "svc_05"`)

	d.press(card("svc_05") + " [data-override]")
	d.waitText("#override-duration-hint", "breaker.fail_max stays overridden, and all end after this duration.")
	d.waitTrue("the reason is that of the other key", `document.querySelector("#override-reason").value.startsWith("disk")`)
	d.fill("#override-key", "timeout")
	d.waitText("#override-key-hint", "in force: 30s")
	d.fill("#override-value", "5s"+kb.Enter)
	d.waitTrue("both keys are listed", overriddenKeys+` === "breaker.fail_max End, timeout End"`)
	d.waitText(overrides, "timeout = 5s, otherwise 30s")
	d.waitText(overrides, "29 min")
	d.waitText(card("svc_05")+" .badges", "2 keys overridden")
	d.wantNodes(node{"region", "overridden keys of svc_05"}, node{"button", "End the override of timeout of svc_05"}, node{"button", "End the overrides of svc_05"})
	d.checkContrast("overrides")
	for _, width := range []int64{400, 320} {
		d.checkWidth("with overridden keys", width)
	}
	d.endOverrides(p, config)
}

// overrideWithFaults opens the dialog for svc_05, and sends values that the proxy rejects. The dialog has the key breaker.fail_max then.
func (d *page) overrideWithFaults() {
	d.t.Helper()
	d.press(card("svc_05") + " [data-override]")
	d.waitTrue("the keys of the route are offered", `["timeout", "breaker.fail_max", "breaker.adaptive.mode"].every((key) => [...document.querySelectorAll("#override-keys option")].some((o) => o.value === key))`)
	if offered := evaluate[int](d, `document.querySelectorAll("#override-keys :is([value=upstream], [value=prefix], [value^='tls'])").length`); offered > 0 {
		d.t.Errorf("%d keys are offered that cannot be overridden", offered)
	}
	d.fill("#override-key", "breaker.fail_maxx")
	d.fill("#override-value", "-1")
	d.replace("#override-duration", "48h"+kb.Enter)
	d.waitText("#override-key-fault", `unknown key, did you mean "fail_max"?`)
	d.waitText("#override-duration-fault", "of at most 24h0m0s")
	d.waitText("#override-dialog .dialog-error", "A value is not valid. Nothing has changed.")
	d.waitTrue("the key is marked", `document.activeElement.matches("#override-key[aria-invalid=true][aria-describedby~=override-key-fault]")`)
	d.replace("#override-key", "upstream"+kb.Enter)
	d.waitText("#override-key-fault", "can be changed in the file only")
	d.replace("#override-duration", "1h")
	d.replace("#override-key", "breaker.fail_max")
	d.waitText("#override-key-hint", "in force: 5")
	d.replace("#override-value", "-1"+kb.Enter)
	d.waitText("#override-value-fault", "must be from 0 to 1000000, got -1")
	d.waitTrue("only the value is marked", `[...document.querySelectorAll("[aria-invalid]")].map((e) => e.id).join() === "override-value"`)
	d.checkContrast("override-dialog")
	d.checkWidth("with the dialog", 390)
}

// endOverrides ends the override of one key, then that of the other, and lets one expire. It edits the file meanwhile.
func (d *page) endOverrides(p *harness.Proxy, config string) {
	d.t.Helper()
	overrides := card("svc_05") + " .overrides"
	d.press(overrides + ` [data-key="timeout"] button`)
	d.waitText("#action-dialog", "The other keys stay overridden as long as before.")
	d.fill(`#action-dialog [name="reason"]`, "not needed"+kb.Enter)
	d.waitTrue("one key is listed", overriddenKeys+` === "breaker.fail_max End"`)
	d.waitText(overrides, "“not needed”")
	d.waitTrue("the focus is on the card", `document.querySelector("[data-service=svc_05]").contains(document.activeElement)`)
	p.ReplaceConfig(strings.Replace(config, "fail_max: 5", "fail_max: 7", 1))
	d.waitText(overrides, "breaker.fail_max = 10, otherwise 7")
	d.press(overrides + ` button`)
	d.fill(`#action-dialog [name="reason"]`, "over"+kb.Enter)
	d.waitTrue("no key is listed", `!document.querySelector("[data-service=svc_05] .overrides").checkVisibility()`)
	d.waitText("#timeline", "svc_05: overrides ended: breaker.fail_max = 10, reason “over”")
	d.waitText("#summary", "All 14 services are served by their upstreams.")
	if r := p.AdminRequest("GET", "/api/v1/circuit-breakers/svc_05/overrides", ""); !strings.Contains(r.Body, `"set":{}`) {
		d.t.Errorf("%+v", r)
	}
	setOverrides(d.t, p, "svc_05", `{"set": {"breaker.failure_statuses": ["5xx", 429]}, "duration": "1s"}`)
	d.waitText("#timeline", `svc_05: overrides expired: breaker.failure_statuses = ["5xx",429]`)
	setOverrides(d.t, p, "svc_05", `{"set": {"fallback": "kept"}, "duration": "1h"}`)
	d.waitText(overrides, "fallback = kept, otherwise kept")
	p.ReplaceConfig(strings.NewReplacer("kept:", "stored:", "fallback: kept", "fallback: stored").Replace(config))
	d.waitText("#overrides-dropped", "The overrides of svc_05 were dropped at ")
	d.waitText("#timeline", "svc_05: overrides dropped, as they do not fit the new configuration: fallback = kept; fallback: must be")
}
