package proxy_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// droppingUpstream returns the URL of an upstream that drops connection requests, as a firewall does: the backlog of its port is full. It
// skips the test if the system has no such limit.
func droppingUpstream(t *testing.T) (url string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	a := &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if err := errors.Join(syscall.Bind(fd, a), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(bound.(*syscall.SockaddrInet4).Port))
	for range 10 {
		c, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			return "http://" + address
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Skip("the backlog of this system does not fill")
	return ""
}

// An endpoint that does not answer connection requests leaves time for an attempt at another one.
func TestAnUnreachableEndpointLeavesTimeForAnother(t *testing.T) {
	inOneMode(t)
	for name, keys := range map[string][]string{
		"share of timeout": {"timeout: 6s"},
		"attempt_timeout":  {"timeout: 60s", "attempt_timeout: 2s"},
		"hedge":            {"timeout: 60s", "hedge: {after: 100ms, max_ratio: 1}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ok := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
			t.Cleanup(ok.Close)
			server, address, recorded := start(t, routeConfig("["+droppingUpstream(t)+", "+ok.URL+"]", append(keys,
				"balance: {policy: round_robin}", "retry: {attempts: 1, backoff: 1ms, budget: 1}", "breaker: {fail_max: 1}")...))
			var clients sync.WaitGroup
			for range 4 {
				clients.Go(func() {
					res, err := http.Get("http://" + address + "/svc")
					if err != nil {
						t.Error(err)
						return
					}
					if _ = res.Body.Close(); res.StatusCode != 200 {
						t.Errorf("status %d", res.StatusCode)
					}
				})
			}
			clients.Wait()
			recorded.waitInFlight(t, 0)
			failures, hedges := recorded.seen()
			switch {
			case name == "hedge" && (len(hedges) == 0 || len(failures) > 0),
				name == "share of timeout" && (len(failures) == 0 || slices.ContainsFunc(failures, func(kind events.ErrorType) bool { return kind != events.ErrorConnect })),
				name == "attempt_timeout" && (len(failures) == 0 || slices.ContainsFunc(failures, func(kind events.ErrorType) bool { return kind != events.ErrorTimeout })):
				t.Errorf("failures %v, hedges %v", failures, hedges)
			}
			_ = wantNoneInFlight(t, server)
		})
	}
}
