package dashboard

import (
	"maps"
	"slices"
	"strings"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// checkWhatIfAccess checks contrast, names for screen readers, and the keyboard.
func (d *page) checkWhatIfAccess() {
	d.t.Helper()
	d.waitTrue("the answer is complete", `document.querySelector("#whatif-figures").getAttribute("aria-busy") === "false"`)
	d.checkContrast("whatif")
	seen := map[node]bool{}
	for _, n := range d.nodes() {
		if named := slices.Contains([]string{"slider", "textbox", "combobox", "radio", "button", "image", "table", "dialog"}, n.role); named && (n.name == "" || seen[n]) {
			d.t.Errorf("without a name of its own: %+v", n)
		}
		seen[n] = true
	}
	for _, want := range []node{
		{"dialog", "What if: rag_service"}, {"slider", "Consecutive failures"}, {"textbox", "Consecutive failures fail_max"}, {"combobox", "Algorithm algorithm"}, {"radio", "24 h"},
		{"image", "19 calls, 14 failed, 2 not made; most failures"}, {"image", "with the change: never open"}, {"table", "figures"},
	} {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(seen)), func(n node) bool { return n.role == want.role && strings.HasPrefix(n.name, want.name) }) {
			d.t.Errorf("missing %+v", want)
		}
	}
	d.do(chromedp.Focus(chromedp.CSS("#whatif-close")))
	reached := map[string]bool{}
	for range 40 {
		d.do(chromedp.KeyEvent(kb.Tab))
		at := evaluate[string](d, `document.activeElement.matches("body, #whatif *") ? document.activeElement.id || document.activeElement.type || document.activeElement.tagName : "outside"`)
		if problem := evaluate[string](d, focusProblem); at == "outside" || problem != "" && at != "BODY" {
			d.t.Errorf("the focus is at %s %s", at, problem)
		}
		reached[at] = true
	}
	for _, want := range []string{"range", "whatif-fail_max", "whatif-recovery_backoff-multiplier", "whatif-reset", "radio", "whatif-yaml", "whatif-copy", "whatif-close"} {
		if !reached[want] {
			d.t.Errorf("Tab does not reach %s; it reaches %v", want, reached)
		}
	}
}
