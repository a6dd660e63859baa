package e2e

import (
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// startRequest sends a request and waits until the proxy has received it. The channel gets its response.
func startRequest(t *testing.T, p *harness.Proxy, path string) <-chan harness.Response {
	t.Helper()
	response := make(chan harness.Response, 1)
	go func() {
		res, err := http.Get(p.URL + path)
		if err != nil {
			response <- harness.Response{Body: err.Error()}
			return
		}
		response <- harness.ReadResponse(t, res, err)
	}()
	harness.Eventually(t, "the request is in flight", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="svc"}`) == 1 })
	return response
}

// TestShutdownWaitsForRequests checks that after SIGTERM the proxy is not ready, refuses connections, completes the
// request in flight, and exits with status 0.
func TestShutdownWaitsForRequests(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.RouteConfig(u, 10)})
	response := startRequest(t, p, "/svc/slow?for=1s")
	p.Signal(syscall.SIGTERM)
	harness.Eventually(t, "the admin port responds that the proxy is not ready", func() bool {
		res, err := http.Get(p.AdminURL + "/readyz")
		return harness.ReadResponse(t, res, err).Status == http.StatusServiceUnavailable
	})
	harness.Eventually(t, "new connections are refused", func() bool {
		c, err := net.Dial("tcp", strings.TrimPrefix(p.URL, "http://"))
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	if r := <-response; r.Status != 200 || r.Body != "done" {
		t.Errorf("the request in flight: %+v", r)
	}
	if status := p.Wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// TestShutdownTimeoutAbortsRequests checks that requests in flight are aborted after shutdown_timeout.
func TestShutdownTimeoutAbortsRequests(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: "shutdown_timeout: 0.3\n" + harness.RouteConfig(u, 100)})
	response := startRequest(t, p, "/svc/hang")
	p.Signal(syscall.SIGINT)
	if status := p.Wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if r := <-response; r.Status != 0 {
		t.Errorf("the aborted request: %+v", r)
	}
}

// TestSecondSignalExitsImmediately checks that a second signal ends a shutdown that waits for a request.
func TestSecondSignalExitsImmediately(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: "shutdown_timeout: 1h\n" + harness.RouteConfig(u, 100)})
	response := startRequest(t, p, "/svc/hang")
	p.Signal(syscall.SIGTERM)
	harness.Eventually(t, "the shutdown has begun", func() bool { return strings.Contains(p.Log.String(), "shutting down") })
	p.Signal(syscall.SIGTERM)
	p.Wait()
	<-response
}
