package dashboard

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"cbproxy/internal/e2e/harness"
)

// node is a node of the accessibility tree, which assistive technologies such as screen readers use.
type node struct{ role, name string }

// nodes returns the nodes of the accessibility tree in reading order.
func (d *page) nodes() (all []node) {
	d.t.Helper()
	var tree accessibility.GetFullAXTreeResult
	d.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) (err error) {
		tree, err = cdp.Call(ctx, t, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
		return err
	}))
	byID := map[accessibility.NodeID]*accessibility.Node{}
	for _, n := range tree.Nodes {
		byID[n.NodeID] = n
	}
	text := func(v *accessibility.Value) (s string) {
		if v != nil {
			_ = json.Unmarshal(v.Value, &s) // leaves s empty if the value is not a string
		}
		return s
	}
	var walk func(n *accessibility.Node)
	walk = func(n *accessibility.Node) {
		if n == nil {
			return
		}
		if !n.Ignored {
			all = append(all, node{text(n.Role), text(n.Name)})
		}
		for _, id := range n.ChildIDs {
			walk(byID[id])
		}
	}
	walk(tree.Nodes[0])
	return all
}

// wantNodes checks that the accessibility tree has nodes.
func (d *page) wantNodes(want ...node) {
	d.t.Helper()
	all := d.nodes()
	for _, n := range want {
		if !slices.Contains(all, n) {
			d.t.Errorf("missing %+v", n)
		}
	}
}

// TestDashboardIsReadableByScreenReaders checks that controls and measurements have unique names, that headings are nested
// properly, that all content is in a landmark, and that no information depends on colour alone.
func TestDashboardIsReadableByScreenReaders(t *testing.T) {
	t.Parallel()
	p := startBroken(t, 18)
	injectFault(t, p, "svc_05", `{"kind":"abort","duration":"1h"}`)
	injectFault(t, p, "svc_05", `{"kind":"reset","duration":"1h","reason":"rehearsal"}`)
	d := openPage(p)
	d.waitText("#summary", "2 open, 1 half-open, 2 forced, 1 with injected faults")
	d.waitText("#queue", "svc_07: 1 waiting")
	d.waitText("#timeline", "svc_17")
	evaluate[int](d, `(document.querySelectorAll("details").forEach((e) => (e.open = true)), 0)`)
	needName := []string{"button", "link", "searchbox", "textbox", "combobox", "meter", "progressbar", "navigation", "region", "article", "table", "DisclosureTriangle"}
	needUniqueName := []string{"button", "link", "searchbox", "textbox", "combobox", "meter", "progressbar", "region"}
	count, seen := map[string]int{}, map[node]bool{}
	for _, n := range d.nodes() {
		count[n.role]++
		if slices.Contains(needName, n.role) && n.name == "" && count["dialog"] == 0 {
			t.Errorf("a %s has no name", n.role)
		}
		if seen[n] && slices.Contains(needUniqueName, n.role) && count["figure"] == 0 {
			t.Errorf("duplicate %+v", n)
		}
		seen[n] = true
	}
	for _, want := range []node{
		{"button", "Open svc_07"}, {"button", "Probe now svc_07"}, {"button", "Release svc_17"}, {"button", "Drop svc_07.1"}, {"link", "svc_03 closed, forced"},
		{"searchbox", "Filter services"}, {"combobox", "Service shown in charts"}, {"meter", "consecutive failures of svc_07"}, {"article", "svc_07"}, {"region", "Queue"},
		{"list", "Events"}, {"region", "faults injected into svc_05"}, {"button", "End fault f2 of svc_05"}, {"button", "Inject fault into svc_07"}, {"navigation", "Needs attention"},
	} {
		if !seen[want] {
			t.Errorf("missing %+v", want)
		}
	}
	if count["banner"] != 1 || count["main"] != 1 {
		t.Errorf("landmarks: %v", count)
	}
	if faults := evaluate[string](d, headingFaults); faults != "" {
		t.Error("headings:", faults)
	}
	if outside := evaluate[string](d, outsideLandmarks); outside != "" {
		t.Error("outside of landmarks:", outside)
	}
	if colours := evaluate[string](d, colourOnly); colours != "" {
		t.Error("distinguished by colour only:", colours)
	}
}

const (
	headingFaults = `(() => {
		let last = 0;
		const faults = [];
		for (const e of document.querySelectorAll("h1, h2, h3, h4, h5, h6")) {
			if (!e.checkVisibility()) continue;
			const level = +e.tagName[1];
			if (level > last + 1 || (level === 1) !== (last === 0) || !e.textContent.trim()) faults.push(e.outerHTML);
			last = level;
		}
		return faults.join("\n");
	})()`
	outsideLandmarks = `[...document.body.children].filter((e) => e.checkVisibility() && !e.matches("header, main, dialog")).map((e) => e.outerHTML).join("\n")`
	// colourOnly lists cards and links that do not contain their state as text, and lines of a chart that differ in colour only.
	colourOnly = `[
		...[...document.querySelectorAll(".card")].filter((c) => !c.querySelector(".badges").innerText.split(" ").some((word) => c.classList.contains("is-" + word))).map((c) => c.outerHTML),
		...[...document.querySelectorAll("#attention a")].filter((a) => !a.innerText.includes(" " + a.classList[1])).map((a) => a.outerHTML),
		...[...document.querySelectorAll(".chart")].flatMap((c) => [...c.querySelectorAll(".u-series .u-marker")].map((m) => m.style.border.replace(/rgb.*|#.*/, "")).filter((style, i, all) => style && all.indexOf(style) !== i)),
	].join("\n")`
	// lowContrast lists texts whose contrast with their background is below 4.5:1 (WCAG 2.1, 1.4.3).
	lowContrast = `(() => {
		const parse = (c) => { const [r, g, b, a = 1] = c.match(/[\d.]+/g).map(Number); return [r, g, b, a]; };
		const blend = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
		const background = (e) => e ? blend(parse(getComputedStyle(e).backgroundColor), background(e.parentElement)) : [255, 255, 255, 1];
		const luminance = (c) => { const [r, g, b] = c.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
		const opacity = (e) => e ? getComputedStyle(e).opacity * opacity(e.parentElement) : 1;
		const check = (e, style, text) => {
			const back = background(e), color = parse(style.color);
			color[3] *= opacity(e) * style.opacity;
			const a = luminance(blend(color, back)), b = luminance(back), contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
			if (contrast < 4.5) found.push(contrast.toFixed(2) + " " + text);
			checked++;
		};
		const found = [];
		let checked = 0;
		const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
		while (walker.nextNode()) {
			const e = walker.currentNode.parentElement;
			if (walker.currentNode.data.trim() && e.checkVisibility() && !e.closest("noscript, .visually-hidden, option")) check(e, { color: getComputedStyle(e).color, opacity: 1 }, walker.currentNode.data);
		}
		for (const e of document.querySelectorAll("input, select")) if (e.checkVisibility()) {
			check(e, { color: getComputedStyle(e).color, opacity: 1 }, e.outerHTML);
			if (e.placeholder) check(e, getComputedStyle(e, "::placeholder"), "placeholder " + e.placeholder);
		}
		return JSON.stringify({ checked, found });
	})()`
)

// checkContrast checks the contrast of all texts on the page in both themes. what is the name of the screenshots.
func (d *page) checkContrast(what string) {
	d.t.Helper()
	for _, theme := range []string{"light", "dark"} {
		d.do(emulatePreference("color-scheme", theme))
		var result struct {
			Checked int
			Found   []string
		}
		if err := json.Unmarshal([]byte(evaluate[string](d, lowContrast)), &result); err != nil || result.Checked < 100 {
			d.t.Fatalf("%d texts checked, %v", result.Checked, err)
		}
		if len(result.Found) > 0 {
			d.t.Errorf("%s, %s: low contrast:\n%s", what, theme, strings.Join(result.Found, "\n"))
		}
		d.screenshot(what + "-" + theme)
	}
}

func TestDashboardHasContrastAndRespectsReducedMotion(t *testing.T) {
	t.Parallel()
	p := startBroken(t, 18)
	d := openPage(p)
	d.waitText("#summary", "2 open, 1 half-open, 2 forced")
	d.waitText("#queue", "svc_07: 1 waiting")
	d.do(chromedp.Click(chromedp.CSS("#normal > summary")))
	d.unlock()
	injectFault(t, p, "svc_05", `{"kind":"abort","duration":"1h","match":{"header":"X-Test"},"reason":"rehearsal"}`)
	d.waitText(card("svc_05"), "Injected on purpose")
	d.checkContrast("broken")
	d.press(card("svc_05") + " [data-inject]")
	d.waitTrue("the dialog is open", `document.querySelector("#fault-dialog").open`)
	d.checkContrast("fault")
	d.do(escape)
	d.press(card("svc_00") + ` [data-state="open"]`)
	d.fill(`#action-dialog [name="duration"]`, "nonsense"+kb.Enter)
	d.waitText("#action-dialog .dialog-error", "duration")
	d.checkContrast("dialog")
	d.do(escape)

	if moving := evaluate[int](d, `document.getAnimations().length`); moving > 0 {
		t.Errorf("%d animations", moving)
	}
	d.do(emulatePreference("reduced-motion", "reduce"))
	if off := evaluate[bool](d, `(() => {
		const probe = document.createElement("p");
		probe.style.setProperty("transition", "all 9s");
		document.body.append(probe);
		const { transitionDuration } = getComputedStyle(probe);
		probe.remove();
		return transitionDuration === "0s";
	})()`); !off {
		t.Error("transitions are not disabled by prefers-reduced-motion")
	}
	p.Kill()
	d.waitText("#connection", "Connection lost")
	d.checkContrast("disconnected")
}

func TestDashboardWorksWithKeyboardOnly(t *testing.T) {
	t.Parallel()
	p := startBroken(t, 18)
	d := openPage(p)
	d.waitText("#queue", "svc_07: 1 waiting")
	d.waitText("#attention", "svc_03 closed, forced")
	d.do(chromedp.EmulateViewport(1280, 700))
	var stops []string
	for {
		d.do(chromedp.KeyEvent(kb.Tab))
		at := evaluate[string](d, focused)
		if at == "BODY" || len(stops) > 200 {
			break
		}
		stops = append(stops, at)
		if problem := evaluate[string](d, focusProblem); problem != "" {
			t.Errorf("focus at %s: %s", at, problem)
		}
	}
	for _, want := range []string{"unlock", "Filter services", "Open svc_07", "Probe now svc_17", "Release svc_03", "Service shown in charts", "Retry svc_07.1", "reload"} {
		if !slices.Contains(stops, want) {
			t.Errorf("Tab does not reach %s; it reaches %s", want, strings.Join(stops, ", "))
		}
	}

	line := ".chart .u-series:nth-child(3) th" // failures
	for _, shown := range []string{"false", "true"} {
		d.press(line)
		if got := evaluate[string](d, `document.querySelector("`+line+`").getAttribute("aria-pressed")`); got != shown {
			t.Errorf("aria-pressed of the line: %s, want %s", got, shown)
		}
	}

	for _, end := range []string{kb.Escape, kb.Enter} {
		opener := card("svc_17") + ` [data-state="auto"]`
		if end == kb.Escape {
			d.unlock()
		}
		d.press(opener)
		for range 9 {
			d.do(chromedp.KeyEvent(kb.Tab))
			if outside := evaluate[string](d, `document.activeElement.matches("body, #action-dialog *") ? "" : document.activeElement.outerHTML`); outside != "" {
				t.Errorf("the focus leaves the dialog to %s", outside)
			}
		}
		d.fill(`#action-dialog [name="reason"]`, end)
		d.waitTrue("the dialog is closed", `!document.querySelector("#action-dialog").open`)
		want := "Release svc_17"
		if end == kb.Enter {
			d.waitTrue("the breaker is released", `!document.querySelector("[data-service=svc_17] [data-state=auto]").checkVisibility()`)
			want = "Open svc_17"
		}
		d.waitFocus("after the dialog", want)
	}
}

// focusProblem describes why the focus is not visible; "" if it is.
const focusProblem = `(() => {
	const e = document.activeElement, style = getComputedStyle(e), { top, bottom, left, right } = e.getBoundingClientRect();
	if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2) return "no outline: " + style.outline;
	if (bottom <= 0 || top >= innerHeight || right <= 0 || left >= innerWidth) return "off the screen";
	return "";
})()`

// TestDashboardAnnouncesChangesOnce checks that screen readers announce the result of several quick changes, and not each one.
func TestDashboardAnnouncesChangesOnce(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: configWithServices(14, u.URL())})
	d := openPage(p)
	d.waitText("#announcement", "All 14 services are served by their upstreams.")
	if got := evaluate[string](d, `[...document.querySelectorAll("[role=status], [role=alert], [aria-live]")].filter((e) => !e.closest("dialog")).map((e) => e.id).join(" ")`); got != "connection-state announcement config-error filter-count" {
		t.Errorf("live regions: %s", got)
	}
	evaluate[int](d, `(() => {
		window.announced = [];
		new MutationObserver(() => announced.push(document.querySelector("#announcement").textContent)).observe(document.querySelector("#announcement"), { childList: true });
		new MutationObserver(() => announced.push(document.querySelector("#connection-state").textContent)).observe(document.querySelector("#connection-state"), { childList: true });
		return 0;
	})()`)
	for i := range 6 {
		p.Force(fmt.Sprintf("svc_%02d", i), `{"state":"open"}`)
		d.waitText("#summary", fmt.Sprintf("%d open", i+1)) // at once
	}
	d.waitText("#announcement", "6 open")
	if n := evaluate[int](d, `announced.length`); n > 3 {
		t.Errorf("6 changes cause %d announcements: %s", n, evaluate[string](d, `announced.join("\n")`))
	}
	evaluate[int](d, `announced.length = 0`)
	p.Kill()
	d.waitText("#connection", "Retrying in 2 s")
	d.waitText("#connection", "Retrying in 1 s")
	if n := evaluate[int](d, `announced.length`); n != 1 {
		t.Errorf("announcements after the connection was lost: %s", evaluate[string](d, `announced.join("\n")`))
	}
}
