package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// TestH2CForClientsAndUpstreams checks that clients and upstreams can use HTTP/2 without TLS.
func TestH2CForClientsAndUpstreams(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.RouteConfig(u, 10)})
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Get(p.URL + "/svc/x?y")
	if r := harness.ReadResponse(t, res, err); res.ProtoMajor != 2 || r.Status != 200 || !strings.Contains(r.Body, `"target":"/x?y"`) {
		t.Errorf("%s %+v", res.Proto, r)
	}
	// The upstream is a second cbproxy, which supports HTTP/1.1 and h2c.
	front := harness.StartProxy(t, harness.Options{Config: strings.Replace(harness.RouteConfig(u, 10), u.URL(), "h2c"+strings.TrimPrefix(p.URL, "http")+"/svc", 1)})
	if r := front.Get("/svc/x?y"); r.Status != 200 || !strings.Contains(r.Body, `"target":"/x?y"`) {
		t.Errorf("through h2c: %+v", r)
	}
}

// TestUnixSocketListener checks that the proxy listens on a Unix socket, and replaces one that a killed process left.
func TestUnixSocketListener(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	socket := filepath.Join(t.TempDir(), "data.sock")
	if l, err := net.Listen("unix", socket); err != nil {
		t.Fatal(err)
	} else { // leave a stale socket
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		_ = l.Close()
	}
	p := harness.StartProxy(t, harness.Options{Config: "# on a socket\n" + harness.RouteConfig(u, 10), Env: []string{"DATA=unix://" + socket}})
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Get("http://unix/svc/x")
	if r := harness.ReadResponse(t, res, err); r.Status != 200 || !strings.Contains(r.Body, `"target":"/x"`) {
		t.Errorf("response %+v", r)
	}
	p.Signal(syscall.SIGTERM)
	if status := p.Wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// TestStreamsAreFlushedImmediately checks that each part of a request and of its response is forwarded as it arrives.
func TestStreamsAreFlushedImmediately(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.RouteConfig(u, 10)})
	body, sender := io.Pipe()
	r, err := http.NewRequest(http.MethodPost, p.URL+"/svc/events", body)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r) // returns before the body is sent
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for _, word := range []string{"a", "b", "c"} {
		if _, err := io.WriteString(sender, word); err != nil {
			t.Fatal(err)
		}
		line, err := lines.ReadString('\n')
		if err != nil || line != "data: "+word+"\n" {
			t.Fatalf("%q, %v", line, err)
		}
		_, _ = lines.ReadString('\n')
	}
	_ = sender.Close()
	if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
		t.Errorf("after the end of the upload: %q, %v", rest, err)
	}
}

// TestWebSocketIsTunnelled checks that a WebSocket is tunnelled for longer than the route's timeout, and counts as a
// success.
func TestWebSocketIsTunnelled(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.RouteConfig(u, 1)}) // a timeout that must not end the tunnel
	c, r := p.Dial()
	defer c.Close()
	fmt.Fprint(c, "GET /svc/socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if head := harness.ReadHead(t, r); !strings.HasPrefix(head, "HTTP/1.1 101 ") || !strings.Contains(head, "X-Circuit-Breaker-State: closed") {
		t.Fatal(head)
	}
	for deadline := time.Now().Add(1500 * time.Millisecond); time.Now().Before(deadline); {
		fmt.Fprint(c, "ping")
		echo := make([]byte, 4)
		if _, err := io.ReadFull(r, echo); err != nil || string(echo) != "ping" {
			t.Fatalf("%q, %v", echo, err)
		}
	}
	_ = c.Close()
	harness.Eventually(t, "the tunnel is closed", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="svc"}`) == 0 })
	if n := p.Metric(`enhanced_circuit_breaker_requests_total{service="svc",status="success"}`); n != 1 {
		t.Errorf("%v successes are counted, want 1", n)
	}
}

// TestHTTP10ClientsGetNoInformationalResponses checks that a 103 response is forwarded to HTTP/1.1 clients only.
func TestHTTP10ClientsGetNoInformationalResponses(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.RouteConfig(u, 10)})
	for version, want := range map[string]string{"HTTP/1.1": "HTTP/1.1 103 ", "HTTP/1.0": "HTTP/1.0 200 "} {
		c, r := p.Dial()
		fmt.Fprintf(c, "GET /svc/hints %s\r\nHost: x\r\n\r\n", version)
		if head := harness.ReadHead(t, r); !strings.HasPrefix(head, want) {
			t.Errorf("%s: %s", version, head)
		}
		_ = c.Close()
	}
}

// TestHopByHopAndForwardingFields checks that hop-by-hop fields and spoofed forwarding fields are removed, and that the
// proxy sets its own forwarding fields.
func TestHopByHopAndForwardingFields(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.RouteConfig(u, 10)})
	r, err := http.NewRequest(http.MethodGet, p.URL+"/svc", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{
		"Connection": {"X-Forwarded-For, X-Secret, close"}, "X-Secret": {"hop"}, "Keep-Alive": {"5"}, "Proxy-Authorization": {"x"}, "Te": {"gzip"},
		"X-Forwarded-For": {"6.6.6.6"}, "X_forwarded_for": {"6.6.6.6"}, "Forwarded": {"for=6.6.6.6"}, "X-Real-Ip": {"6.6.6.6"},
		"X-Forwarded-Proto": {"https"}, "X-Fallback": {"static"}, "Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
	}
	res, err := http.DefaultClient.Do(r)
	body := harness.ReadResponse(t, res, err).Body // describes the request that the upstream received
	for _, removed := range []string{"6.6.6.6", "X-Secret", "Keep-Alive", "Proxy-Authorization", "gzip]", "https", "X-Fallback"} {
		if strings.Contains(strings.Replace(body, "Accept-Encoding:[gzip]", "", 1), removed) {
			t.Errorf("%s reached the upstream: %s", removed, body)
		}
	}
	for _, forwarded := range []string{"X-Forwarded-For:[127.0.0.1]", "X-Forwarded-Proto:[http]", "X-Forwarded-Host:[", "Traceparent:[00-0af"} {
		if !strings.Contains(body, forwarded) {
			t.Errorf("%s did not reach the upstream: %s", forwarded, body)
		}
	}
}
