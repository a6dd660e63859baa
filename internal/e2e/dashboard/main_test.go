// Package dashboard tests the dashboard in a real browser.
package dashboard

import (
	"context"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"cbproxy/internal/e2e/harness"
)

func TestMain(m *testing.M) {
	code := harness.RunTests(m)
	stopBrowser()
	os.Exit(code)
}

// stopBrowser stops the browser if it was started.
var stopBrowser = func() {}

// startBrowser starts the browser that all tests share, because a start is expensive. It returns its context, or nil and the error if
// there is no browser.
var startBrowser = sync.OnceValues(func() (context.Context, error) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		return nil, err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WindowSize(1280, 1500))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	browser, closeBrowser := chromedp.NewContext(allocator)
	stopBrowser = func() {
		closeBrowser()
		stop()
	}
	return browser, chromedp.Do(browser) // starts it
})
