//go:build unix

package proxy_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"syscall"
	"testing"

	"cbproxy/internal/events"
)

// A request to a second upstream for which this machine has no descriptor is counted as a local error, like one to the first.
func TestLocalErrorOfSecondUpstreamIsCounted(t *testing.T) {
	second := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer second.Close()
	server, address, recorded := start(t, "fallbacks: {svc: {try: [upstream, static], upstream: {url: "+second.URL+"}, static: {body: none}}}\n"+routeConfig(closedPort(t)))
	server.Breaker("svc").Force(events.Open, 0, "test")
	c, r := dial(t, address)
	send := func() string {
		fmt.Fprint(c, "GET /svc HTTP/1.1\r\nHost: x\r\n\r\n")
		res := nextResponse(t, r)
		recorded.next(t)
		return res.Header.Get("X-Fallback")
	}
	if got := send(); got != "upstream" {
		t.Fatalf("the fallback is %q", got)
	}
	second.CloseClientConnections()
	if got := withoutDescriptors(t, send); got != "static" {
		t.Errorf("without descriptors the fallback is %q", got)
	}
	recorded.mu.Lock()
	defer recorded.mu.Unlock()
	if !slices.Equal(recorded.local, []events.LocalError{events.LocalDescriptors}) || len(recorded.failures) > 0 {
		t.Errorf("local errors %v, failures %v", recorded.local, recorded.failures)
	}
}

// withoutDescriptors returns the result of f, called while the process can't open files or connections.
func withoutDescriptors(t *testing.T, f func() string) string {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
	}()
	return f()
}
