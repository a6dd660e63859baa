package dashboard

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"cbproxy/internal/e2e/harness"
	"cbproxy/internal/testenv"
)

// page is a browser tab that shows a dashboard.
type page struct {
	t   testing.TB
	ctx context.Context
}

// openPage runs the setup actions and opens the dashboard of p. The test fails if the page sends requests to another server,
// or if one of its scripts throws an exception.
func openPage(p *harness.Proxy, setup ...chromedp.Action[chromedp.Void]) *page {
	p.T.Helper()
	browser, err := startBrowser()
	if browser == nil {
		testenv.SkipUnlessCI(p.T, "a browser", err)
	}
	// A browser context has its own storage, as a private window has.
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	p.T.Cleanup(cancel)
	err = chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			if !strings.HasPrefix(e.Request.URL, p.AdminURL+"/") {
				p.T.Errorf("the page requests %s", e.Request.URL)
			}
		case *runtime.EventExceptionThrown:
			p.T.Errorf("exception in a script: %s %v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception)
		case *log.EventEntryAdded:
			if e.Entry.Source == log.EntrySourceSecurity {
				p.T.Errorf("security error: %s", e.Entry.Text)
			}
		}
	})
	if err != nil {
		p.T.Fatal(err)
	}
	d := &page{p.T, ctx}
	// Each page believes that it has the focus, although only one window of the browser can have it.
	d.do(callWith(emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}))
	d.do(call(network.Enable), call(runtime.Enable), call(log.Enable))
	d.do(setup...)
	d.do(chromedp.Navigate(p.AdminURL + "/"))
	return d
}

// call returns an action that sends a command of the DevTools protocol without parameters.
func call[P, R any](command cdp.Command[P, R]) chromedp.Action[chromedp.Void] {
	return callWith(command, *new(P))
}

// callWith returns an action that sends a command of the DevTools protocol.
func callWith[P, R any](command cdp.Command[P, R], parameters P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, command, parameters)
		return err
	})
}

// do runs actions.
func (d *page) do(actions ...chromedp.Action[chromedp.Void]) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.ctx, harness.EventTimeout)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		d.t.Fatal(err)
	}
}

// text returns the visible text of an element, "" if there is no such element.
func (d *page) text(selector string) string {
	d.t.Helper()
	return evaluate[string](d, fmt.Sprintf(`document.querySelector(%q)?.innerText ?? ""`, selector))
}

// evaluate returns the value of a JavaScript expression in the page.
func evaluate[T any](d *page, script string) T {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.ctx, harness.EventTimeout)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](script))
	if err != nil {
		d.t.Fatalf("%s: %v", script, err)
	}
	return value
}

// waitText waits until the text of an element contains text.
func (d *page) waitText(selector, text string) {
	d.t.Helper()
	last := ""
	for deadline := time.Now().Add(harness.EventTimeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if last = d.text(selector); strings.Contains(last, text) {
			return
		}
	}
	d.screenshot("missing")
	d.t.Fatalf("%s: text %q not found in %q", selector, text, last)
}

// screenshot writes a screenshot to the folder in PICTURES, for visual inspection. It does nothing if PICTURES is not set.
func (d *page) screenshot(name string) {
	d.t.Helper()
	folder := os.Getenv("PICTURES")
	if folder == "" {
		return
	}
	content, err := chromedp.Run(d.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, name+".png"), content, 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// card returns the selector of a service's card.
func card(service string) string { return `[data-service="` + service + `"]` }

// press focuses an element and presses Enter.
func (d *page) press(selector string) {
	d.t.Helper()
	d.do(chromedp.WaitVisible(chromedp.CSS(selector)), chromedp.Focus(chromedp.CSS(selector)), chromedp.KeyEvent(kb.Enter))
}

// fill types text into a field.
func (d *page) fill(selector, text string) {
	d.t.Helper()
	d.do(chromedp.WaitVisible(chromedp.CSS(selector)), chromedp.Focus(chromedp.CSS(selector)), chromedp.KeyEvent(text))
}

// unlock enters the admin token.
func (d *page) unlock() {
	d.t.Helper()
	d.press("#unlock")
	d.fill(`#token-dialog [name="token"]`, harness.AdminToken+kb.Enter)
	d.waitText("#unlock", "Lock")
}

// waitTrue waits until a JavaScript expression in the page is true. what describes the condition.
func (d *page) waitTrue(what, script string) {
	d.t.Helper()
	harness.Eventually(d.t, what, func() bool { return evaluate[bool](d, script) })
}

// waitFocus waits until an element, as focused identifies it, has the focus.
func (d *page) waitFocus(when, want string) {
	d.t.Helper()
	harness.Eventually(d.t, "the focus "+when+" is at "+want, func() bool { return evaluate[string](d, focused) == want })
}

// emulatePreference sets a user preference for media queries, such as color-scheme.
func emulatePreference(what, value string) chromedp.Action[chromedp.Void] {
	return callWith(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-" + what, Value: value}},
	})
}

var escape = chromedp.KeyEvent(kb.Escape)
