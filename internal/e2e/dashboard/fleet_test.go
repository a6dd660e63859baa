package dashboard

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"cbproxy/internal/e2e/harness"
	"cbproxy/internal/redistest"
)

// TestDashboardOfFleet checks that the page of an instance shows what other instances detected, and the states forced on them.
func TestDashboardOfFleet(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	u := harness.StartUpstream(t)
	config := harness.RedisConfig(`url: "`+server.URL()+`"`, u.URL(), "fail_max: 2, recovery_timeout: 1h")
	fleet := harness.StartFleet(t, 2, harness.Options{Config: config})
	first, second := openPage(fleet[0]), openPage(fleet[1])
	name := fleet[0].Health().Instance
	for _, d := range []*page{first, second} {
		d.waitText("#instance", "shared (quorum 1)")
		d.unlock()
	}

	first.press(card("svc") + ` [data-state="open"]`)
	if scope := evaluate[string](first, selectedScope); scope != "instance" {
		t.Errorf("initial scope %q", scope)
	}
	first.fill(`#action-dialog [name="scope"]`, kb.ArrowDown)
	first.fill(`#action-dialog [name="reason"]`, "moving"+kb.Enter)
	first.waitText(card("svc"), "forced fleet-wide")
	second.waitText(card("svc"), "forced fleet-wide")
	second.waitText(card("svc"), "forced on "+name)
	second.waitText(card("svc"), "moving")
	second.waitText("#summary", "1 open, 1 forced of 1 service")
	second.waitText("#timeline", "svc closed → open: forced, reason “moving” ("+name+")")
	if f := fleet[1].Health().Services["svc"].Forced; f == nil || f.Scope != "fleet" || f.Reason != "moving" {
		t.Errorf("forced state of the second instance: %+v", f)
	}
	second.screenshot("fleet")

	second.press(card("svc") + ` [data-state="auto"]`)
	if scope := evaluate[string](second, selectedScope); scope != "fleet" {
		t.Errorf("initial scope of a state forced on the fleet: %q", scope)
	}
	second.fill(`#action-dialog [name="reason"]`, "moved"+kb.Enter)
	for i, d := range []*page{first, second} {
		d.waitTrue("the page shows no forced state", `!document.querySelector("[data-service=svc] .forced").checkVisibility()`)
		if f := fleet[i].Health().Services["svc"].Forced; f != nil {
			t.Errorf("forced state of proxy %d after the release: %+v", i, f)
		}
	}
	harness.Eventually(t, "both breakers are closed", func() bool {
		fleet[0].Get("/svc")
		fleet[1].Get("/svc")
		return fleet[0].BreakerState() == "closed" && fleet[1].BreakerState() == "closed"
	})

	u.Kill()
	fleet[0].Get("/svc")
	fleet[0].Get("/svc")
	second.waitText(card("svc"), "consecutive failures, detected by "+name)
	second.waitText(card("svc"), "connect, dial tcp")

	first.press(card("svc") + ` [data-state="closed"]`)
	if !evaluate[bool](first, scopeVisible) {
		t.Error("no choice of the scope although instances share states")
	}
	first.do(escape)
	fleet[0].ReplaceConfig(strings.Replace(config, "redis: {", "redis: {share: {enabled: false}, ", 1))
	first.waitTrue("the instance no longer shares states", `!document.querySelector("#instance").textContent.includes("shared")`)
	first.press(card("svc") + ` [data-state="closed"]`)
	if evaluate[bool](first, scopeVisible) {
		t.Error("choice of the scope although the instance does not share states")
	}
	first.fill(`#action-dialog [name="reason"]`, "not shared"+kb.Enter)
	first.waitText("#timeline", "svc closed instance, reason “not shared”")
	if s := fleet[1].BreakerState(); s != "open" {
		t.Errorf("state of the second instance: %s", s)
	}
}

const (
	selectedScope = `document.querySelector("#action-dialog [name=scope]").value`
	scopeVisible  = `document.querySelector("#action-dialog [name=scope]").checkVisibility()`
)
