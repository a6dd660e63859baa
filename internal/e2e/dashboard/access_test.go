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

// node is a node of the accessibility tree, which is the page for who can't see it.
type node struct{ role, name string }

// nodes are the accessibility tree's, in the order in which they are read.
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
			_ = json.Unmarshal(v.Value, &s) // what is no text has none
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

// What can be done and what is measured has a name, and no two the same; the headings make a table of
// contents, and everything is in a landmark.
func TestDashboardCanBeRead(t *testing.T) {
	t.Parallel()
	d := openPage(brokenServices(t, 18))
	d.shows("#summary", "2 open, 1 half-open, 2 forced")
	d.shows("#queue", "svc_07: 1 waiting")
	d.shows("#timeline", "svc_17")
	evaluate[int](d, `(document.querySelectorAll("details").forEach((e) => (e.open = true)), 0)`)
	named := []string{"button", "link", "searchbox", "textbox", "combobox", "meter", "progressbar", "navigation", "region", "article", "table", "DisclosureTriangle"}
	alone := []string{"button", "link", "searchbox", "textbox", "combobox", "meter", "progressbar", "region"}
	count, seen := map[string]int{}, map[node]bool{}
	for _, n := range d.nodes() {
		count[n.role]++
		if slices.Contains(named, n.role) && n.name == "" && count["dialog"] == 0 {
			t.Errorf("a %s has no name", n.role)
		}
		if seen[n] && slices.Contains(alone, n.role) && count["figure"] == 0 {
			t.Errorf("there are two of %+v", n)
		}
		seen[n] = true
	}
	for _, want := range []node{
		{"button", "Open svc_07"}, {"button", "Probe now svc_07"}, {"button", "Release svc_17"}, {"button", "Drop svc_07.1"}, {"link", "svc_03 closed, forced"},
		{"searchbox", "Filter services"}, {"combobox", "Service of the charts"}, {"meter", "failures in a row of svc_07"}, {"article", "svc_07"}, {"region", "Queue"},
		{"list", "What happened"}, {"navigation", "In trouble"},
	} {
		if !seen[want] {
			t.Errorf("there is no %+v", want)
		}
	}
	if count["banner"] != 1 || count["main"] != 1 {
		t.Errorf("the landmarks are %v", count)
	}
	if faults := evaluate[string](d, headingFaults); faults != "" {
		t.Error("headings:", faults)
	}
	if strays := evaluate[string](d, strayTexts); strays != "" {
		t.Error("in no landmark:", strays)
	}
	if colours := evaluate[string](d, onlyColoured); colours != "" {
		t.Error("told by colour alone:", colours)
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
	strayTexts = `[...document.body.children].filter((e) => e.checkVisibility() && !e.matches("header, main, dialog")).map((e) => e.outerHTML).join("\n")`
	// onlyColoured are cards and links that don't say their state, and lines of a chart that differ in nothing else.
	onlyColoured = `[
		...[...document.querySelectorAll(".card")].filter((c) => !c.querySelector(".badges").innerText.split(" ").some((word) => c.classList.contains("is-" + word))).map((c) => c.outerHTML),
		...[...document.querySelectorAll("#troubled a")].filter((a) => !a.innerText.includes(" " + a.classList[1])).map((a) => a.outerHTML),
		...[...document.querySelectorAll(".chart")].flatMap((c) => [...c.querySelectorAll(".u-series .u-marker")].map((m) => m.style.border.replace(/rgb.*|#.*/, "")).filter((style, i, all) => style && all.indexOf(style) !== i)),
	].join("\n")`
	// faint are texts whose contrast with what is behind them is below 4.5 to 1.
	faint = `(() => {
		const parse = (c) => { const [r, g, b, a = 1] = c.match(/[\d.]+/g).map(Number); return [r, g, b, a]; };
		const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
		const behind = (e) => e ? over(parse(getComputedStyle(e).backgroundColor), behind(e.parentElement)) : [255, 255, 255, 1];
		const light = (c) => { const [r, g, b] = c.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
		const opacity = (e) => e ? getComputedStyle(e).opacity * opacity(e.parentElement) : 1;
		const check = (e, style, text) => {
			const back = behind(e), color = parse(style.color);
			color[3] *= opacity(e) * style.opacity;
			const a = light(over(color, back)), b = light(back), contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
			if (contrast < 4.5) faint.push(contrast.toFixed(2) + " " + text);
			checked++;
		};
		const faint = [];
		let checked = 0;
		const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
		while (walker.nextNode()) {
			const e = walker.currentNode.parentElement;
			if (walker.currentNode.data.trim() && e.checkVisibility() && !e.closest("noscript, .unseen, option")) check(e, { color: getComputedStyle(e).color, opacity: 1 }, walker.currentNode.data);
		}
		for (const e of document.querySelectorAll("input, select")) if (e.checkVisibility()) {
			check(e, { color: getComputedStyle(e).color, opacity: 1 }, e.outerHTML);
			if (e.placeholder) check(e, getComputedStyle(e, "::placeholder"), "placeholder " + e.placeholder);
		}
		return JSON.stringify({ checked, faint });
	})()`
)

func TestDashboardCanBeSeen(t *testing.T) {
	t.Parallel()
	p := brokenServices(t, 18)
	d := openPage(p)
	d.shows("#summary", "2 open, 1 half-open, 2 forced")
	d.shows("#queue", "svc_07: 1 waiting")
	d.do(chromedp.Click(chromedp.CSS("#calm > summary")))
	d.unlock()
	legible := func(what string) {
		t.Helper()
		for _, theme := range []string{"light", "dark"} {
			d.do(prefers("color-scheme", theme))
			var found struct {
				Checked int
				Faint   []string
			}
			if err := json.Unmarshal([]byte(evaluate[string](d, faint)), &found); err != nil || found.Checked < 100 {
				t.Fatalf("%d texts were looked at, %v", found.Checked, err)
			}
			if len(found.Faint) > 0 {
				t.Errorf("%s, %s: too faint are\n%s", what, theme, strings.Join(found.Faint, "\n"))
			}
			d.picture(what + "-" + theme)
		}
	}
	legible("broken")
	d.press(card("svc_00") + ` [data-state="open"]`)
	d.fill(`#action-dialog [name="duration"]`, "nonsense"+kb.Enter)
	d.shows("#action-dialog .fault", "duration")
	legible("asked")
	d.do(escape)

	if moving := evaluate[int](d, `document.getAnimations().length`); moving > 0 {
		t.Errorf("%d things move", moving)
	}
	d.do(prefers("reduced-motion", "reduce"))
	if still := evaluate[bool](d, `(() => {
		const probe = document.createElement("p");
		probe.style.setProperty("transition", "all 9s");
		document.body.append(probe);
		const { transitionDuration } = getComputedStyle(probe);
		probe.remove();
		return transitionDuration === "0s";
	})()`); !still {
		t.Error("things move even for who asks that nothing should")
	}
	p.Kill()
	d.shows("#connection", "Connection lost")
	legible("lost")
}

func TestDashboardCanBeUsedByTheKeyboardAlone(t *testing.T) {
	t.Parallel()
	p := brokenServices(t, 18)
	d := openPage(p)
	d.shows("#queue", "svc_07: 1 waiting")
	d.shows("#troubled", "svc_03 closed, forced")
	d.do(chromedp.EmulateViewport(1280, 700))
	var stops []string
	for {
		d.do(chromedp.KeyEvent(kb.Tab))
		at := evaluate[string](d, focused)
		if at == "BODY" || len(stops) > 200 {
			break
		}
		stops = append(stops, at)
		if fault := evaluate[string](d, unseenFocus); fault != "" {
			t.Errorf("at %s: %s", at, fault)
		}
	}
	for _, want := range []string{"unlock", "Filter services", "Open svc_07", "Probe now svc_17", "Release svc_03", "Service of the charts", "Retry svc_07.1", "reload"} {
		if !slices.Contains(stops, want) {
			t.Errorf("the keyboard does not get to %s but to %s", want, strings.Join(stops, ", "))
		}
	}

	line := ".chart .u-series:nth-child(3) th" // failures
	for _, shown := range []string{"false", "true"} {
		d.press(line)
		if got := evaluate[string](d, `document.querySelector("`+line+`").getAttribute("aria-pressed")`); got != shown {
			t.Errorf("that the line is shown is %s, want %s", got, shown)
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
			if out := evaluate[string](d, `document.activeElement.matches("body, #action-dialog *") ? "" : document.activeElement.outerHTML`); out != "" {
				t.Errorf("from the dialog the focus goes to %s", out)
			}
		}
		d.fill(`#action-dialog [name="reason"]`, end)
		d.becomes("the dialog is closed", `!document.querySelector("#action-dialog").open`)
		want := "Release svc_17"
		if end == kb.Enter {
			d.becomes("the release is seen", `!document.querySelector("[data-service=svc_17] [data-state=auto]").checkVisibility()`)
			want = "Open svc_17"
		}
		if got := evaluate[string](d, focused); got != want {
			t.Errorf("after the dialog the focus is at %s, want %s", got, want)
		}
	}
}

// unseenFocus tells what is wrong with how the focus is shown; "" if nothing is.
const unseenFocus = `(() => {
	const e = document.activeElement, style = getComputedStyle(e), { top, bottom, left, right } = e.getBoundingClientRect();
	if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2) return "no outline: " + style.outline;
	if (bottom <= 0 || top >= innerHeight || right <= 0 || left >= innerWidth) return "it is off the screen";
	return "";
})()`

// Who hears the page is told what has changed, and not each step of it.
func TestDashboardSaysWhatHappensOnce(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: servicesOf(14, u.URL())})
	d := openPage(p)
	d.shows("#said", "All 14 services answer through their upstreams.")
	if got := evaluate[string](d, `[...document.querySelectorAll("[role=status], [role=alert], [aria-live]")].filter((e) => !e.closest("dialog")).map((e) => e.id).join(" ")`); got != "connected said fault filtered" {
		t.Errorf("what is said aloud: %s", got)
	}
	evaluate[int](d, `(() => {
		window.spoken = [];
		new MutationObserver(() => spoken.push(document.querySelector("#said").textContent)).observe(document.querySelector("#said"), { childList: true });
		new MutationObserver(() => spoken.push(document.querySelector("#connected").textContent)).observe(document.querySelector("#connected"), { childList: true });
		return 0;
	})()`)
	for i := range 6 {
		p.Force(fmt.Sprintf("svc_%02d", i), `{"state":"open"}`)
		d.shows("#summary", fmt.Sprintf("%d open", i+1)) // at once
	}
	d.shows("#said", "6 open")
	if n := evaluate[int](d, `spoken.length`); n > 3 {
		t.Errorf("of 6 changes in a moment it says %d: %s", n, evaluate[string](d, `spoken.join("\n")`))
	}
	evaluate[int](d, `spoken.length = 0`)
	p.Kill()
	d.shows("#connection", "Next try in 2 s")
	d.shows("#connection", "Next try in 1 s")
	if n := evaluate[int](d, `spoken.length`); n != 1 {
		t.Errorf("of one loss of the connection it says: %s", evaluate[string](d, `spoken.join("\n")`))
	}
}
