package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cbproxy/internal/e2e/harness"
)

// implementations are configurations of the two HTTP implementations of the proxy.
var implementations = map[string]string{
	"auto":     "server: auto\ndefaults: {transport: auto}\n",
	"net_http": "server: net_http\ndefaults: {transport: net_http}\n",
}

// TestDescriptorExhaustionIsNotAnUpstreamFailure checks that a proxy without free file descriptors responds with 503,
// counts a local error and no failure of the upstream, and recovers once descriptors are free.
func TestDescriptorExhaustionIsNotAnUpstreamFailure(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }))
	t.Cleanup(upstream.Close)
	upstream.Config.SetKeepAlivesEnabled(false) // each request needs a connection
	_, port, _ := net.SplitHostPort(upstream.Listener.Addr().String())
	for name, config := range implementations {
		for _, host := range []string{"127.0.0.1", "localhost"} {
			t.Run(name+" "+host, func(t *testing.T) {
				t.Parallel()
				p := harness.StartProxy(t, harness.Options{Config: config + `routes: {svc: {prefix: /svc, upstream: "http://` + host + ":" + port + `", breaker: {fail_max: 2}}}` + "\n"})
				client, err := net.Dial("tcp", strings.TrimPrefix(p.URL, "http://"))
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				responses := bufio.NewReader(client)
				get := func() *http.Response {
					_, _ = io.WriteString(client, "GET /svc HTTP/1.1\r\nHost: x\r\n\r\n")
					res, err := http.ReadResponse(responses, nil)
					if err != nil {
						t.Fatal(err)
					}
					_, _ = io.Copy(io.Discard, res.Body)
					return res
				}
				if res := get(); res.StatusCode != 200 {
					t.Fatalf("status %d", res.StatusCode)
				}
				var before unix.Rlimit
				pid := p.Cmd.Process.Pid
				if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: 4096}, &before); err != nil {
					t.Fatal(err)
				}
				for range 5 {
					res := get()
					if res.StatusCode != 503 || res.Header.Get("X-Circuit-Breaker-State") != "closed" ||
						!strings.Contains(res.Header.Get("Proxy-Status"), "connection_limit_reached") {
						t.Errorf("status %d, %v", res.StatusCode, res.Header)
					}
				}
				if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 4096, Max: 4096}, nil); err != nil {
					t.Fatal(err)
				}
				if res := get(); res.StatusCode != 200 {
					t.Errorf("with free descriptors: status %d", res.StatusCode)
				}
				if s := p.Health().Services["svc"]; s.State != "closed" || s.FailCounter != 0 {
					t.Errorf("service %+v, want a closed breaker without failures", s)
				}
				if n := p.Metric(`cbproxy_local_errors_total{kind="descriptors"}`); n != 5 {
					t.Errorf("%v local errors are counted, want 5", n)
				}
			})
		}
	}
}

// TestProcessPauseIsNotAnUpstreamFailure checks that a timeout that passes while the process is stopped counts neither
// as success nor as failure of the upstream, and that a response that arrived meanwhile is forwarded.
func TestProcessPauseIsNotAnUpstreamFailure(t *testing.T) {
	t.Parallel()
	type testCase struct {
		limit    string
		responds bool
	}
	for name, config := range implementations {
		for _, c := range []testCase{{"timeout: 2s", true}, {"timeout: 2s", false}, {"attempt_timeout: 2s", true}, {"attempt_timeout: 2s", false}} {
			responds := c.responds
			t.Run(fmt.Sprint(name, ", ", c.limit, ", the upstream responds: ", responds), func(t *testing.T) {
				t.Parallel()
				const requests = 5
				arrived, resume := make(chan struct{}, requests), make(chan struct{})
				upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					arrived <- struct{}{}
					select {
					case <-resume:
						fmt.Fprint(w, "ok")
					case <-r.Context().Done():
					}
				}))
				defer upstream.Close()
				p := harness.StartProxy(t, harness.Options{Config: config + `routes: {svc: {prefix: /svc, ` + c.limit + `, upstream: "` + upstream.URL + `", breaker: {fail_max: 1}}}` + "\n"})
				got := make(chan harness.Response, requests)
				for range requests {
					go func() { got <- p.Get("/svc") }()
				}
				for range requests {
					<-arrived
				}
				p.Signal(syscall.SIGSTOP)
				if responds {
					close(resume)
				}
				<-time.After(4 * time.Second) // longer than the route's timeout
				p.Signal(syscall.SIGCONT)
				for range requests {
					switch r := <-got; {
					case responds && (r.Status != 200 || r.Body != "ok"):
						t.Errorf("response %+v, want status 200", r)
					case !responds && (r.Status != 503 || r.BreakerState() != "closed"):
						t.Errorf("response %+v, want status 503 and a closed breaker", r)
					}
				}
				if s := p.Health().Services["svc"]; s.State != "closed" || s.FailCounter != 0 {
					t.Errorf("service %+v, want a closed breaker without failures", s)
				}
				if n := p.Metric(`cbproxy_local_errors_total{kind="pause"}`); n != map[bool]float64{true: 0, false: requests}[responds] {
					t.Errorf("%v pauses are counted as local errors", n)
				}
			})
		}
	}
}
