package dashboard

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// TestDashboardShowsKeys checks that a card shows the keys that need most attention, with texts as text, that they can be forced and
// released, and that the events do not name them.
func TestDashboardShowsKeys(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("X-Tenant"), "bad") {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(upstream.Close)
	p := harness.StartProxy(t, harness.Options{Config: fmt.Sprintf(`routes:
  svc: {prefix: /svc, upstream: %[1]q, breaker: {fail_max: 2, by: {header: X-Tenant, max: 20}}}
  other: {prefix: /other, upstream: %[1]q}
`, upstream.URL)})
	send := func(tenant string) int { return p.Send("GET", "/svc/", "", "X-Tenant", tenant).Status }
	for i := range 12 {
		send(fmt.Sprint("tenant-", i))
	}
	d := openPage(p)
	keys := card("svc") + " .keys"
	d.waitText(keys, "12 keys")
	if shown := d.text(keys); strings.Contains(shown, "tenant-") {
		t.Errorf("the list is open: %s", shown)
	}
	if evaluate[bool](d, `document.querySelector("[data-service=other] .keys").checkVisibility()`) {
		t.Error("a service without keys shows a list")
	}

	const hostile = `bad</bdi><img/src=x/onerror=alert(1)> ` + "\u202e"
	send(hostile)
	send(hostile)
	d.waitText(keys, "13 keys, 1 open") // opened by the change
	d.waitText(keys+" li:first-child", `bad</bdi><img/src=x/onerror=alert(1)> \u{202e} open, `)
	d.waitText(keys+" li:first-child", "2 failures, used ")
	d.waitText(keys, "The first 10 of 13")
	d.waitText(card("svc")+" .badges", "1 of 13 keys not closed")
	d.waitText("#attention", "svc closed, 1 of 13 keys not closed")
	d.waitText("#summary", "1 with keys not closed of 2 services; all are served by their upstreams.")
	d.waitText("#timeline", "svc: breaker of a key: closed → open: consecutive failures")
	if made := evaluate[int](d, `document.querySelectorAll("img, main script").length`); made > 0 {
		t.Errorf("the texts created %d elements", made)
	}
	if n := evaluate[int](d, `document.querySelectorAll("[data-service=svc] .keys li").length`); n != 10 {
		t.Errorf("%d keys are shown", n)
	}
	d.wantNodes(node{"region", "keys of svc"}, node{"DisclosureTriangle", "Keys of svc: 13 keys, 1 open"})
	d.checkContrast("keys")
	for _, width := range []int64{400, 320} {
		d.checkWidth("with keys", width)
	}
	d.screenshot("keys")

	d.unlock()
	d.press(keys + ` li:first-child [data-state="closed"]`)
	d.waitText("#action-title", `Close the breaker of “bad</bdi><img/src=x/onerror=alert(1)> \u{202e}” of svc`)
	d.fill(`#action-dialog [name="reason"]`, "it is fixed")
	d.fill(`#action-dialog [name="duration"]`, "10m")
	d.press(`#action-dialog [value="ok"]`)
	d.waitText(keys+" li:first-child", "closed, forced, 9 min")
	if status := send(hostile); status != http.StatusInternalServerError {
		t.Errorf("status %d while the breaker is forced closed", status)
	}
	d.waitText("#timeline", "force-state svc closed 10m0s key, reason “it is fixed”")
	d.press(keys + ` li:first-child [data-state="auto"]`)
	d.press(`#action-dialog [value="ok"]`)
	d.waitText(keys, "13 keys")
	harness.Eventually(t, "the key is released", func() bool { return !strings.Contains(d.text(keys+" ul"), "forced") })
	if shown := d.text("#timeline"); strings.Contains(shown, "onerror") {
		t.Errorf("the timeline names the key: %s", shown)
	}
}
