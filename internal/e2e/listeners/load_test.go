package listeners

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// load sends requests until stop is called. A request that fails, or whose response has a status other than 200, fails the test.
type load struct {
	t       *testing.T
	sent    atomic.Int64
	done    chan struct{}
	clients sync.WaitGroup
}

// startLoad starts clients that send requests to a URL, half of them on a new connection each.
func startLoad(t *testing.T, url string) *load {
	l := &load{t: t, done: make(chan struct{})}
	for i := range 8 {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 0}, Timeout: harness.EventTimeout}
		l.clients.Go(func() {
			defer client.CloseIdleConnections()
			for l.send(client, url) {
			}
		})
	}
	return l
}

// send sends one request. It reports false after stop and after a failure.
func (l *load) send(client *http.Client, url string) bool {
	select {
	case <-l.done:
		return false
	default:
	}
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		l.t.Error(err)
		return false
	}
	res, err := client.Do(r)
	if err != nil {
		l.t.Errorf("request %d: %v", l.sent.Load(), err)
		return false
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK || res.Header.Get("X-Fallback") != "" {
		l.t.Errorf("status %d, %v", res.StatusCode, res.Header)
		return false
	}
	l.sent.Add(1)
	return true
}

// stop ends the load and returns the number of successful requests.
func (l *load) stop() int64 {
	close(l.done)
	l.clients.Wait()
	return l.sent.Load()
}

// TestReloadsOfListenersFailNoRequests changes the listeners of other services, and everything else of the service, under load
// on its own listener.
func TestReloadsOfListenersFailNoRequests(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	own, moving := harness.FreeAddress(t), []string{harness.FreeAddress(t), harness.FreeAddress(t), ""}
	config := func(n int) string {
		return fmt.Sprintf("routes:\n  svc: {upstream: %s, listen: %q, timeout: %d}\n  other: {upstream: %s, prefix: /other, listen: %q}\n",
			u.URL(), own, 10+n%5, u.URL(), moving[n%3])
	}
	p := harness.StartProxy(t, harness.Options{Config: config(0)})
	l := startLoad(t, "http://"+own+"/x")
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for n := range 30 {
		p.ReplaceConfig(config(n))
		<-ticker.C
	}
	p.ReplaceConfig(config(3))
	harness.Eventually(t, "the last configuration is applied", func() bool { return p.Health().Services["svc"].Configuration.Timeout == 13 && isOpen(moving[0]) })
	if sent := l.stop(); sent < 100 {
		t.Errorf("only %d requests", sent)
	}
	if n := p.Metric(`cbproxy_config_reloads_total{result="failure"}`); n != 0 {
		t.Errorf("%v reloads failed:\n%s", n, p.Log)
	}
	if n := p.Metric(`cbproxy_config_reloads_total{result="success"}`); n < 5 {
		t.Errorf("only %v reloads", n)
	}
}
