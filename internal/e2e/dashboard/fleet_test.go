package dashboard

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"cbproxy/internal/e2e/harness"
	"cbproxy/internal/redistest"
)

// What one instance finds or is told to do stands on the pages of the others, with whom it is from.
func TestDashboardOfAFleet(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	u := harness.StartUpstream(t)
	config := harness.RedisConfig(`url: "`+server.URL()+`"`, u.URL(), "fail_max: 2, recovery_timeout: 1h")
	fleet := harness.StartFleet(t, 2, harness.Options{Config: config})
	here, there := openPage(fleet[0]), openPage(fleet[1])
	name := fleet[0].Health().Instance
	for _, d := range []*page{here, there} {
		d.shows("#facts", "shared (quorum 1)")
		d.unlock()
	}

	here.press(card("svc") + ` [data-state="open"]`)
	if scope := evaluate[string](here, scopeChosen); scope != "instance" {
		t.Errorf("unless another is chosen, the scope is %q", scope)
	}
	here.fill(`#action-dialog [name="scope"]`, kb.ArrowDown)
	here.fill(`#action-dialog [name="reason"]`, "moving"+kb.Enter)
	here.shows(card("svc"), "forced fleet-wide")
	there.shows(card("svc"), "forced fleet-wide")
	there.shows(card("svc"), "forced at "+name)
	there.shows(card("svc"), "moving")
	there.shows("#summary", "1 open, 1 forced of 1 service")
	there.shows("#timeline", "svc closed → open by forced: “moving” ("+name+")")
	if f := fleet[1].Health().Services["svc"].Forced; f == nil || f.Scope != "fleet" || f.Reason != "moving" {
		t.Errorf("the other one is forced: %+v", f)
	}
	there.picture("fleet")

	there.press(card("svc") + ` [data-state="auto"]`)
	if scope := evaluate[string](there, scopeChosen); scope != "fleet" {
		t.Errorf("for a hold of the fleet's the scope is %q", scope)
	}
	there.fill(`#action-dialog [name="reason"]`, "moved"+kb.Enter)
	for i, d := range []*page{here, there} {
		d.becomes("the page shows no hold", `!document.querySelector("[data-service=svc] .forced").checkVisibility()`)
		if f := fleet[i].Health().Services["svc"].Forced; f != nil {
			t.Errorf("after the release, proxy %d is forced: %+v", i, f)
		}
	}
	harness.Eventually(t, "they recover", func() bool {
		fleet[0].Get("/svc")
		fleet[1].Get("/svc")
		return fleet[0].BreakerState() == "closed" && fleet[1].BreakerState() == "closed"
	})

	u.Kill()
	fleet[0].Get("/svc")
	fleet[0].Get("/svc")
	there.shows(card("svc"), "consecutive failures, noticed by "+name)
	there.shows(card("svc"), "connect, dial tcp")

	here.press(card("svc") + ` [data-state="closed"]`)
	if !evaluate[bool](here, scopeOffered) {
		t.Error("among instances that share, no scope is offered")
	}
	here.do(escape)
	fleet[0].ReplaceConfig(strings.Replace(config, "redis: {", "redis: {share: {enabled: false}, ", 1))
	here.becomes("it no longer shares", `!document.querySelector("#facts").textContent.includes("shared")`)
	here.press(card("svc") + ` [data-state="closed"]`)
	if evaluate[bool](here, scopeOffered) {
		t.Error("to one that does not share, a scope is offered")
	}
	here.fill(`#action-dialog [name="reason"]`, "alone"+kb.Enter)
	here.shows("#timeline", "svc closed instance: “alone”")
	if s := fleet[1].BreakerState(); s != "open" {
		t.Errorf("the other one became %s", s)
	}
}

const (
	scopeChosen  = `document.querySelector("#action-dialog [name=scope]").value`
	scopeOffered = `document.querySelector("#action-dialog [name=scope]").checkVisibility()`
)
