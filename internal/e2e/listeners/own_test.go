package listeners

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// ownConfig configures services svc and other with the given listen addresses.
func ownConfig(u *harness.Upstream, svc, other string) string {
	return fmt.Sprintf("routes:\n  svc: {upstream: %s, prefix: /svc, listen: %q}\n  other: {upstream: %s, prefix: /other, listen: %q}\n", u.URL(), svc, u.URL(), other)
}

// get sends a GET request and returns the response.
func get(t *testing.T, client *http.Client, url string) harness.Response {
	t.Helper()
	res, err := client.Get(url)
	return harness.ReadResponse(t, res, err)
}

// newClient returns a client with connections of its own.
func newClient(t *testing.T) *http.Client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: harness.EventTimeout}
}

// isOpen reports whether a TCP address accepts connections.
func isOpen(address string) bool {
	c, err := net.Dial("tcp", address)
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}

// TestOwnListenerServesEveryPath checks that all paths on the own listener of a service are forwarded as they are, over HTTP/1.1
// and HTTP/2, that requests are validated, logged and counted, and that a service without a prefix has no other address.
func TestOwnListenerServesEveryPath(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	own := harness.FreeAddress(t)
	p := harness.StartProxy(t, harness.Options{Config: "access_log: {enabled: true, destination: stderr}\n" +
		fmt.Sprintf("routes: {svc: {upstream: %s, listen: %q}}\n", u.URL(), own)})
	h2c := new(http.Protocols)
	h2c.SetUnencryptedHTTP2(true)
	http2 := &http.Client{Transport: &http.Transport{Protocols: h2c}, Timeout: harness.EventTimeout}
	for _, client := range []*http.Client{newClient(t), http2} {
		for _, path := range []string{"/", "/svc/x?a=%2F", "/any/path/"} {
			r := get(t, client, "http://"+own+path)
			if r.Status != 200 || !strings.Contains(r.Body, fmt.Sprintf(`"target":%q`, path)) || r.Header.Get("X-Circuit-Breaker-Service") != "svc" {
				t.Errorf("%s: %+v", path, r)
			}
		}
		if r := get(t, client, "http://"+own+"/a/%2e%2e/b"); r.Status != http.StatusBadRequest {
			t.Errorf("dot segment: %+v", r)
		}
		client.CloseIdleConnections()
	}
	if r := p.Get("/svc/x"); r.Status != http.StatusNotFound {
		t.Errorf("without a prefix: %+v", r)
	}
	if n := p.Metric(`enhanced_circuit_breaker_requests_total{service="svc",status="success"}`); n != 6 {
		t.Errorf("%v requests are counted, want 6", n)
	}
	harness.Eventually(t, "the requests are logged", func() bool { return strings.Count(p.Log.String(), `"path":"/any/path/"`) == 2 })
	harness.Eventually(t, "the listener is logged", func() bool {
		return strings.Contains(p.Log.String(), fmt.Sprintf(`"msg":"listening","service":"svc","listen":%q`, own))
	})
	if r := p.AdminRequest(http.MethodGet, "/api/v1/config", harness.AdminToken); !strings.Contains(r.Body, fmt.Sprintf(`"listen":%q`, own)) {
		t.Errorf("GET /api/v1/config: %s", r.Body)
	}
}

// TestReloadOpensMovesAndClosesListeners checks that reloads change own listeners without touching the others, and that a request
// in flight on a closed listener is completed.
func TestReloadOpensMovesAndClosesListeners(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	first, second, kept := harness.FreeAddress(t), harness.FreeAddress(t), harness.FreeAddress(t)
	p := harness.StartProxy(t, harness.Options{Config: ownConfig(u, first, kept)})
	client := newClient(t)
	keptConn, err := net.Dial("tcp", kept)
	if err != nil {
		t.Fatal(err)
	}
	defer keptConn.Close()
	inFlight := make(chan harness.Response, 1)
	go func() { inFlight <- get(t, client, "http://"+first+"/slow?for=2s") }()
	harness.Eventually(t, "the request is in flight", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="svc"}`) == 1 })

	p.WriteConfig(ownConfig(u, second, kept))
	harness.Eventually(t, "the listener has moved", func() bool { return isOpen(second) && !isOpen(first) })
	if r := get(t, client, "http://"+second+"/x"); r.Status != 200 || r.Header.Get("X-Circuit-Breaker-Service") != "svc" {
		t.Errorf("the new address: %+v", r)
	}
	if r := <-inFlight; r.Status != 200 || r.Body != "done" {
		t.Errorf("the request in flight: %+v", r)
	}
	p.WriteConfig(ownConfig(u, "", second)) // the address belongs to the other service
	harness.Eventually(t, "the address has the other service", func() bool {
		return get(t, client, "http://"+second+"/x").Header.Get("X-Circuit-Breaker-Service") == "other" && !isOpen(kept)
	})
	p.WriteConfig(ownConfig(u, "", ""))
	harness.Eventually(t, "all own listeners are closed", func() bool { return !isOpen(second) })
	if r := p.Get("/svc/x"); r.Status != 200 {
		t.Errorf("the prefix: %+v", r)
	}
	if n := p.Metric(`cbproxy_config_reloads_total{result="failure"}`); n != 0 {
		t.Errorf("%v reloads failed", n)
	}
}

// TestReloadWithAddressInUseChangesNothing checks that a configuration whose address can't be opened is rejected as a whole, with
// the position of the key.
func TestReloadWithAddressInUseChangesNothing(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	own, added := harness.FreeAddress(t), harness.FreeAddress(t)
	p := harness.StartProxy(t, harness.Options{Config: ownConfig(u, own, "")})
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	p.WriteConfig(strings.Replace(ownConfig(u, added, taken.Addr().String()), "/other", "/changed", 1))
	column := strings.Index(fmt.Sprintf("  other: {upstream: %s, prefix: /changed, listen", u.URL()), "listen") + 1
	want := fmt.Sprintf("%s:6:%d: routes.other.listen: cannot listen on %s: ", p.ConfigFile, column, taken.Addr())
	harness.Eventually(t, "health reports the address", func() bool {
		e := p.Health().Config.LastError
		return e != nil && strings.HasPrefix(*e, want) && strings.Contains(*e, "address already in use")
	})
	if !isOpen(own) || isOpen(added) || p.Get("/other").Status != 200 || p.Get("/changed").Status != http.StatusNotFound {
		t.Error("a part of the configuration has been applied")
	}
	p.WriteConfig(ownConfig(u, added, ""))
	harness.Eventually(t, "the corrected configuration is applied", func() bool { return isOpen(added) && !isOpen(own) })
	if status, out, _ := harness.RunCommand(t, "check", "--config", p.ConfigFile); status != 0 {
		t.Errorf("check of a configuration whose addresses are in use: %d, %s", status, out)
	}
}

// TestShutdownDrainsOwnListeners checks that a shutdown completes the requests of own listeners, and removes Unix sockets.
func TestShutdownDrainsOwnListeners(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	own := harness.FreeAddress(t)
	socket := filepath.Join(t.TempDir(), "s")
	p := harness.StartProxy(t, harness.Options{Config: ownConfig(u, own, "unix://"+socket)})
	if !socketExists(socket) {
		t.Error("no socket")
	}
	inFlight := make(chan harness.Response, 1)
	go func() { inFlight <- get(t, newClient(t), "http://"+own+"/slow?for=1s") }()
	harness.Eventually(t, "the request is in flight", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="svc"}`) == 1 })
	p.Signal(syscall.SIGTERM)
	harness.Eventually(t, "new connections are refused", func() bool { return !isOpen(own) })
	if r := <-inFlight; r.Status != 200 || r.Body != "done" {
		t.Errorf("the request in flight: %+v", r)
	}
	if status := p.Wait(); status != 0 || socketExists(socket) {
		t.Errorf("exit status %d, socket left: %v", status, socketExists(socket))
	}
}
