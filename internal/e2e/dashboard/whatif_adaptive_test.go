package dashboard

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"

	"cbproxy/internal/e2e/harness"
)

// TestWhatIfShowsWhatLearningWouldHaveOpened checks that “What if” tells what the modes shadow and enforce of learning do with a record in
// which unlikely failures have opened nothing.
func TestWhatIfShowsWhatLearningWouldHaveOpened(t *testing.T) {
	t.Parallel()
	var failing atomic.Bool
	p := harness.StartProxy(t, harness.Options{Config: strings.ReplaceAll(`
routes:
  svc: {prefix: /svc, upstream: URL, breaker: {fail_max: 0, recovery_timeout: 1h, slow_call_duration: auto, adaptive: {mode: shadow, warmup: {calls: 50, time: 0s}}}}
`, "URL", startSwitchable(t, &failing))})
	for range 60 {
		p.Get("/svc")
	}
	failing.Store(true)
	for range 30 {
		p.Get("/svc")
	}
	d := openPage(p)
	d.press(`[data-whatif="svc"]`)
	if f := d.awaitFigures(p, `"breaker":{}`); f.Against["openings"] != 0 || f.Against["failures_passed"] != 30 {
		t.Errorf("in force: %v", f)
	}
	d.waitText("#whatif-learning", "In the mode shadow, unlikely failures are only reported.")
	if text := d.text("#whatif-figures"); strings.Contains(text, "unlikely failures\t") {
		t.Errorf("the figures have a row for unlikely failures, which open nothing: %q", text)
	}
	const slow = `document.querySelector('[data-key="slow_call_duration"] [type="range"]')`
	if got := evaluate[string](d, slow+`.value + " " + `+slow+`.getAttribute("aria-valuetext")`); got != "0 auto" {
		t.Errorf("the slider of a duration that is learnt: %s", got)
	}
	d.do(chromedp.Focus(chromedp.CSS("#whatif-adaptive-mode")), chromedp.KeyEvent("enforce"))
	if f := d.awaitFigures(p, `"breaker":{"adaptive":{"mode":"enforce"}}`); f.Config["openings"] != 1 || f.Config["refused"] == 0 {
		t.Errorf("in the mode enforce: %v", f)
	}
	d.waitText("#whatif-figures", "of them for unlikely failures\t0\t1\t+1")
	d.waitText("#whatif-learning", "unlikely failures open the breaker after a warmup of 50 calls and 0s.")
	d.waitTrue("the lane has the opening", `document.querySelector('.lane [aria-label^="with the change: open once"] title').textContent.startsWith("open, adaptive: ")`)
	d.screenshot("whatif-adaptive")
}
