package dashboard

import (
	"context"
	"fmt"
	"os"
	"os/exec"
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
)

// page is a tab of a real browser.
type page struct {
	t   testing.TB
	ctx context.Context
}

// openPage opens a proxy's dashboard, after first. Nothing may be asked of anybody else, and nothing may
// go wrong in its scripts.
func openPage(p *harness.Proxy, first ...chromedp.Action[chromedp.Void]) *page {
	p.T.Helper()
	browser, err := exec.LookPath("chromium")
	if err != nil {
		harness.SkipUnlessCI(p.T, "a browser", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(browser), chromedp.NoSandbox, chromedp.WindowSize(1280, 1500))
	ctx, stop := chromedp.NewExecAllocator(p.T.Context(), options...)
	p.T.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(ctx)
	p.T.Cleanup(cancel)
	err = chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			if !strings.HasPrefix(e.Request.URL, p.AdminURL+"/") {
				p.T.Errorf("the page asks for %s", e.Request.URL)
			}
		case *runtime.EventExceptionThrown:
			p.T.Errorf("a script fails: %s %v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception)
		case *log.EventEntryAdded:
			if e.Entry.Source == log.EntrySourceSecurity {
				p.T.Errorf("the browser says: %s", e.Entry.Text)
			}
		}
	})
	if err != nil {
		p.T.Fatal(err)
	}
	d := &page{p.T, ctx}
	d.do(call(network.Enable), call(runtime.Enable), call(log.Enable))
	d.do(first...)
	d.do(chromedp.Navigate(p.AdminURL + "/"))
	return d
}

// call is a command of the browser's protocol, without parameters.
func call[P, R any](command cdp.Command[P, R]) chromedp.Action[chromedp.Void] {
	return with(command, *new(P))
}

func with[P, R any](command cdp.Command[P, R], parameters P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, command, parameters)
		return err
	})
}

func (d *page) do(steps ...chromedp.Action[chromedp.Void]) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.ctx, harness.EventTimeout)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		d.t.Fatal(err)
	}
}

// text is what of an element can be seen, "" if there is none.
func (d *page) text(selector string) string {
	d.t.Helper()
	return evaluate[string](d, fmt.Sprintf(`document.querySelector(%q)?.innerText ?? ""`, selector))
}

// evaluate is the value of JavaScript in the page.
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

// shows waits until an element has a text in it.
func (d *page) shows(selector, text string) {
	d.t.Helper()
	last := ""
	for deadline := time.Now().Add(harness.EventTimeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if last = d.text(selector); strings.Contains(last, text) {
			return
		}
	}
	d.picture("missing")
	d.t.Fatalf("%s does not show %q but %q", selector, text, last)
}

// picture keeps what can be seen, where it is asked for: somebody should look at it.
func (d *page) picture(name string) {
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

func card(service string) string { return `[data-service="` + service + `"]` }

// press focuses an element and presses Enter.
func (d *page) press(selector string) {
	d.t.Helper()
	d.do(chromedp.WaitVisible(chromedp.CSS(selector)), chromedp.Focus(chromedp.CSS(selector)), chromedp.KeyEvent(kb.Enter))
}

// fill types into a field.
func (d *page) fill(selector, text string) {
	d.t.Helper()
	d.do(chromedp.WaitVisible(chromedp.CSS(selector)), chromedp.Focus(chromedp.CSS(selector)), chromedp.KeyEvent(text))
}

// unlock gives the page the token.
func (d *page) unlock() {
	d.t.Helper()
	d.press("#unlock")
	d.fill(`#token-dialog [name="token"]`, harness.AdminToken+kb.Enter)
	d.shows("#unlock", "Lock")
}

// becomes waits until JavaScript in the page is true.
func (d *page) becomes(what, script string) {
	d.t.Helper()
	harness.Eventually(d.t, what, func() bool { return evaluate[bool](d, script) })
}

// prefers sets what the user prefers, as media queries tell a page.
func prefers(what, value string) chromedp.Action[chromedp.Void] {
	return with(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-" + what, Value: value}},
	})
}

var escape = chromedp.KeyEvent(kb.Escape)
