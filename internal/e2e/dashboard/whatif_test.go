package dashboard

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"gopkg.in/yaml.v3"

	"cbproxy/internal/breaker/algorithm"
	"cbproxy/internal/e2e/harness"
)

// replace types text into a field in place of what it has.
func (d *page) replace(selector, text string) {
	d.t.Helper()
	d.do(chromedp.Focus(chromedp.CSS(selector)))
	evaluate[any](d, fmt.Sprintf(`document.querySelector(%q).select()`, selector))
	d.do(chromedp.KeyEvent(text))
}

const whatIfConfig = `routes:
  rag_service:
    upstream: UPSTREAM
    breaker:
      fail_max: 5
      recovery_timeout: 1h
  idle:
    prefix: /idle
    upstream: UPSTREAM
    breaker: {mode: shadow}
`

// startWithRecord starts a proxy whose record has 19 calls of rag_service: 14 failures, of which the last ones opened the breaker, and
// two that it rejected.
func startWithRecord(t *testing.T) (p *harness.Proxy, config string) {
	u := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/f") {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(u.Close)
	config = strings.ReplaceAll(whatIfConfig, "UPSTREAM", u.URL)
	p = harness.StartProxy(t, harness.Options{Config: config})
	for _, letter := range "fffsfffsfffsfffffss" {
		p.Get("/rag/" + string(letter))
	}
	return p, config
}

func TestDashboardShowsWhatOtherThresholdsWouldHaveDone(t *testing.T) {
	t.Parallel()
	p, config := startWithRecord(t)
	d := openPage(p)
	d.press(`[data-whatif="rag_service"]`)
	d.waitText("#whatif-status", "19 calls in the 24 h before")
	d.waitText("#whatif-status", "14 failed")
	if f := d.awaitFigures(p, `"breaker":{}`); f.Against["openings"] != 1 || f.Config["refused"] != 2 {
		t.Errorf("in force: %v", f)
	}
	for lane, want := range map[string]string{"was": "open once", "in force": "open once", "with the change": "open once"} {
		d.waitTrue("the lane "+lane, fmt.Sprintf(`document.querySelector('.lane [aria-label^="%s: %s"]') !== null`, lane, want))
	}
	d.waitTrue("there is nothing to copy", `document.querySelector("#whatif-copy").disabled`)

	d.do(chromedp.Focus(chromedp.CSS(`[data-key="fail_max"] [type="range"]`)), chromedp.KeyEvent(kb.ArrowLeft+kb.ArrowLeft))
	f := d.awaitFigures(p, `"breaker":{"fail_max":3}`)
	if f.Config["refused_good"] != 3 || f.Config["failures_passed"] != 3 || f.Against["failures_passed"] != 14 {
		t.Errorf("with fail_max 3: %v", f)
	}
	d.waitText(`[data-figure="failures_passed"]`, "−11")
	d.waitText(`[data-key="fail_max"]`, "in force: 5")

	d.replace("#whatif-fail_max", "many")
	d.waitText(`[data-key="fail_max"] .fault`, "must be a whole number")
	d.waitTrue("invalid values cannot be copied", `document.querySelector("#whatif-copy").disabled`)
	d.replace("#whatif-fail_max", "50")
	f = d.awaitFigures(p, `"fail_max":50`)
	d.waitText("#whatif-unknown", "Calls that were not made then, and would be: 2.")
	d.waitTrue("the fault is gone", `document.querySelector("#whatif-fail_max-fault").hidden`)
	if f.Config["openings"] != 0 {
		t.Errorf("with fail_max 50: %v", f)
	}
	d.checkWhatIfAccess()
	d.chooseAdaptive(p)
	d.chooseAlgorithm(p)
	d.copyYAML(config)

	d.do(chromedp.EmulateViewport(400, 800))
	if wide := evaluate[int](d, `document.querySelector("#whatif").scrollWidth - document.querySelector("#whatif").clientWidth`); wide > 0 {
		t.Errorf("on a phone the content is %d pixels wider than the dialog", wide)
	}
	d.do(chromedp.EmulateViewport(1280, 1500), escape)
	d.waitFocus("after closing", "What if rag_service")
	d.describeMissingRecord(p, config)
}

// chooseAdaptive lets unlikely failures open the breaker, and not any more.
func (d *page) chooseAdaptive(p *harness.Proxy) {
	d.t.Helper()
	const mode = "#whatif-adaptive-mode"
	d.do(chromedp.Focus(chromedp.CSS(mode)), chromedp.KeyEvent("enforce"))
	d.waitText(`[data-key="adaptive.mode"]`, "in force: off")
	if f := d.awaitFigures(p, `"fail_max":50,"adaptive":{"mode":"enforce"}`); f.Config["openings"] != 0 {
		d.t.Errorf("nothing was learnt, but: %v", f)
	}
	d.do(chromedp.KeyEvent(kb.ArrowUp + kb.ArrowUp))
	d.waitTrue("the mode is that in force", `!document.querySelector("[data-key='adaptive.mode']").classList.contains("changed")`)
}

// chooseAlgorithm chooses another algorithm, whose options then are fields with their defaults.
func (d *page) chooseAlgorithm(p *harness.Proxy) {
	d.t.Helper()
	d.do(chromedp.Focus(chromedp.CSS("#whatif-algorithm")), chromedp.KeyEvent("count"))
	d.replace("#whatif-min_requests", "4")
	d.replace("#whatif-failure_ratio", "0.7")
	d.replace("#whatif-count-calls", "4")
	d.waitText(`[data-key="count.calls"]`, "by default: 100")
	if f := d.awaitFigures(p, `"count":{"calls":4}`); f.Config["openings"] != 1 {
		d.t.Errorf("with the algorithm count: %v", f)
	}
	if evaluate[bool](d, `document.querySelector("[data-key=window]").checkVisibility()`) {
		d.t.Error("the field window is shown, which the algorithm count does not use")
	}
	want := map[string]any{}
	for name, options := range algorithm.Options() {
		if options == nil {
			continue
		}
		content, err := yaml.Marshal(options())
		if err != nil {
			d.t.Fatal(err)
		}
		var values map[string]any
		if err := yaml.Unmarshal(content, &values); err != nil {
			d.t.Fatal(err)
		}
		for key, value := range values {
			want[name+"."+key] = value
		}
	}
	evaluate[any](d, `import("./dashboard/thresholds.js").then(({ algorithms, defaults }) => Object.assign(window, { algorithms, defaults })) && 0`)
	d.waitTrue("the script is loaded", `"defaults" in window`)
	for key, value := range want {
		if shown := evaluate[string](d, fmt.Sprintf(`String(defaults[%q])`, key)); strings.TrimSuffix(fmt.Sprint(value), "0s") != shown {
			d.t.Errorf("%s is %v by default, the page has %s", key, value, shown)
		}
	}
	if n := evaluate[int](d, `Object.keys(defaults).length`); n != len(want) || evaluate[int](d, `algorithms.length`) != len(algorithm.Options()) {
		d.t.Errorf("the page has %d options of algorithms, want %d", n, len(want))
	}
}

// copyYAML copies the changed keys, and lets the command check the configuration with them.
func (d *page) copyYAML(config string) {
	d.t.Helper()
	const want = `  rag_service:
    breaker:
      algorithm: count
      fail_max: 50
      failure_ratio: 0.7
      min_requests: 4
      count:
        calls: 4
`
	for _, name := range []string{"clipboard-read", "clipboard-write"} {
		d.do(callWith(browser.SetPermission, browser.SetPermissionParams{Permission: &browser.PermissionDescriptor{Name: name}, Setting: browser.PermissionSettingGranted,
			BrowserContextID: chromedp.FromContext(d.ctx).BrowserContextID}))
	}
	d.press("#whatif-copy")
	d.waitText("#whatif-copied", "Copied.")
	evaluate[any](d, `navigator.clipboard.readText().then((text) => { window.copied = text; }) && 0`)
	d.waitTrue("the clipboard is read", `"copied" in window`)
	copied := evaluate[string](d, `copied`)
	if shown := evaluate[string](d, `document.querySelector("#whatif-yaml").textContent`); copied != want || shown != want {
		d.t.Fatalf("copied\n%s, shown\n%s, want\n%s", copied, shown, want)
	}
	var edited, change map[string]map[string]map[string]any
	for text, into := range map[string]*map[string]map[string]map[string]any{config: &edited, "routes:\n" + copied: &change} {
		if err := yaml.Unmarshal([]byte(text), into); err != nil {
			d.t.Fatal(err)
		}
	}
	maps.Copy(edited["routes"]["rag_service"]["breaker"].(map[string]any), change["routes"]["rag_service"]["breaker"].(map[string]any))
	content, err := yaml.Marshal(edited)
	if err != nil {
		d.t.Fatal(err)
	}
	folder := d.t.TempDir()
	for name, content := range map[string]string{"config.yaml": config, "edited.yaml": string(content)} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			d.t.Fatal(err)
		}
	}
	c := exec.CommandContext(d.t.Context(), harness.Binary(), "check", "--diff", "config.yaml", "edited.yaml")
	c.Dir = folder
	output, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(output), "5 changes from config.yaml to edited.yaml") {
		d.t.Errorf("%v: %s", err, output)
	}
}

// describeMissingRecord checks what the page says about a service without calls, and if calls are not recorded.
func (d *page) describeMissingRecord(p *harness.Proxy, config string) {
	d.t.Helper()
	d.press(`[data-whatif="idle"]`)
	d.waitText("#whatif-status", "There are no recorded calls of idle since")
	d.waitText("#whatif-note", "shadow mode")
	d.do(escape)
	p.ReplaceConfig("outcomes: {enabled: false}\n" + config)
	harness.Eventually(d.t, "calls are not recorded", func() bool {
		return strings.Contains(p.AdminRequest("GET", "/api/v1/config", "").Body, `"outcomes":{"enabled":false`)
	})
	d.press(`[data-whatif="rag_service"]`)
	d.waitText("#whatif-status", "Calls are not recorded, because outcomes.enabled is false")
	d.do(escape)
}
