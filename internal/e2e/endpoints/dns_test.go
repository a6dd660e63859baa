package endpoints

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"cbproxy/internal/certtest"
	"cbproxy/internal/e2e/harness"

	"golang.org/x/net/dns/dnsmessage"
)

// startAddresses starts a server at each address, at the same port, which it returns.
func startAddresses(t *testing.T, addresses ...string) (all []*server, port string) {
	t.Helper()
	_, port, err := net.SplitHostPort(harness.FreeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		s := startServerAt(t, a, net.JoinHostPort(a, port), nil)
		s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, r.Host) })
		all = append(all, s)
	}
	return all, port
}

// awaitURLs waits until the endpoints are those of the addresses.
func awaitURLs(p *harness.Proxy, port string, addresses ...string) {
	p.T.Helper()
	var want []string
	for _, a := range addresses {
		want = append(want, "http://"+net.JoinHostPort(a, port))
	}
	harness.Eventually(p.T, fmt.Sprint("the endpoints are ", want), func() bool { return statusOf(p).urls() == strings.Join(want, " ") })
}

// The addresses of a name, IPv4 and IPv6, are endpoints. They follow DNS, whatever its time to live, and stay if it fails. No request fails
// because of a change.
func TestEndpointsFollowDNS(t *testing.T) {
	t.Parallel()
	servers, port := startAddresses(t, "127.0.0.2", "127.0.0.3", "::1")
	dns := startDNS(t)
	dns.set("127.0.0.3", "127.0.0.2", "::1")
	p := startWithDNS(t, dns, config("dns+http://"+host+":"+port, "balance: {policy: round_robin, resolve: 200ms}"))
	for range 9 {
		if r := p.Get("/svc"); r.Status != 200 || r.Body != host+":"+port {
			t.Fatalf("%+v", r)
		}
	}
	if got := fmt.Sprint(callsOf(servers)); got != "[3 3 3]" {
		t.Errorf("calls of the endpoints: %s", got)
	}
	tr := newTraffic(p, "POST")
	stop := tr.background()
	dns.set("127.0.0.2")
	awaitURLs(p, port, "127.0.0.2")
	for _, s := range servers[1:] {
		harness.Eventually(t, "the connections to "+s.name+" are closed", func() bool { return s.open() == 0 })
	}
	dns.set("127.0.0.2", "127.0.0.3")
	awaitURLs(p, port, "127.0.0.2", "127.0.0.3")
	queries := dns.queries.Load()
	for _, fault := range []func(){
		func() { dns.fail(dnsmessage.RCodeNameError) }, func() { dns.fail(dnsmessage.RCodeServerFailure) }, func() { dns.set() }, dns.silence,
	} {
		fault()
		more := dns.queries.Load() + 4
		harness.Eventually(t, "the name has been looked up again", func() bool { return dns.queries.Load() > more })
		if s := statusOf(p); len(s.Endpoints) != 2 {
			t.Errorf("after %d failed queries: %+v", dns.queries.Load()-queries, s)
		}
	}
	dns.set("::1")
	awaitURLs(p, port, "::1")
	stop()
	if failed := tr.failedFrom(0); failed.n > 0 {
		t.Errorf("of %d calls have failed: %+v", tr.sent, failed)
	}
}

// A failed connection makes the name be looked up at once, and not only when the interval has passed.
func TestFailedConnectionLooksUpAgain(t *testing.T) {
	t.Parallel()
	servers, port := startAddresses(t, "127.0.0.2", "127.0.0.3")
	dns := startDNS(t)
	dns.set("127.0.0.2")
	p := startWithDNS(t, dns, config("dns+http://"+host+":"+port, "balance: {resolve: 1h}, breaker: {mode: shadow}"))
	get(p, 3)
	dns.set("127.0.0.3")
	servers[0].kill()
	harness.Eventually(t, "requests are sent to the new address", func() bool { return p.Get("/svc").Status == 200 })
	if servers[1].calls.Load() == 0 {
		t.Error("the server at the new address got no call")
	}
}

// As long as a name has no address, requests get the fallback for connections that fail. When DNS knows it, they are answered.
func TestNameWithoutAddressAtStart(t *testing.T) {
	t.Parallel()
	servers, port := startAddresses(t, "127.0.0.2")
	dns := startDNS(t)
	p := startWithDNS(t, dns, config("dns+http://"+host+":"+port, `balance: {resolve: 1h}, breaker: {mode: shadow}`)+
		"fallbacks: {svc: {when: [connect], try: [static], static: {body: {}}}}\n")
	if r := p.Get("/svc"); r.Header.Get("X-Fallback-Reason") != "connect" || strings.Contains(r.Body, host) {
		t.Errorf("%+v", r)
	}
	if s := statusOf(p); len(s.Endpoints) > 0 {
		t.Errorf("%+v", s)
	}
	dns.set("127.0.0.2")
	harness.Eventually(t, "a request is answered", func() bool { return p.Get("/svc").Header.Get("X-Fallback") == "" })
	if servers[0].calls.Load() == 0 {
		t.Error("the server got no call")
	}
}

// Of 500 addresses, 64 are used.
func TestManyAddressesInDNS(t *testing.T) {
	t.Parallel()
	servers, port := startAddresses(t, "0.0.0.0")
	var addresses []string
	for i := range 500 {
		addresses = append(addresses, fmt.Sprintf("127.9.%d.%d", i/250, 1+i%250))
	}
	dns := startDNS(t)
	dns.set(addresses...)
	p := startWithDNS(t, dns, config("dns+http://"+host+":"+port, "balance: {policy: round_robin, resolve: 200ms}"))
	if got := get(p, 128); got[200] != 128 {
		t.Errorf("%v", got)
	}
	before := statusOf(p).urls()
	if n := len(statusOf(p).Endpoints); n != 64 || servers[0].open() != 64 {
		t.Errorf("%d endpoints, %d connections", n, servers[0].open())
	}
	more := dns.queries.Load() + 8
	harness.Eventually(t, "the name has been looked up again", func() bool { return dns.queries.Load() > more })
	if got := statusOf(p).urls(); got != before {
		t.Errorf("the endpoints have changed from %s to %s", before, got)
	}
}

// The addresses of a name are verified by the name. One whose certificate has another name is ejected.
func TestAddressesOfANameOverTLS(t *testing.T) {
	t.Parallel()
	authority := certtest.NewAuthority(t)
	_, port, _ := net.SplitHostPort(harness.FreeAddress(t))
	good := startServerAt(t, "good", "127.0.0.2:"+port, serverTLS(t, authority, host))
	bad := startServerAt(t, "bad", "127.0.0.3:"+port, serverTLS(t, authority, "127.0.0.3"))
	dns := startDNS(t)
	dns.set("127.0.0.2", "127.0.0.3")
	ca := certtest.Write(t, t.TempDir(), "ca.pem", authority.PEM)
	p := startWithDNS(t, dns, config("dns+https://"+host+":"+port, "tls: {ca_file: "+ca+"}, retry: {attempts: 1, budget: 1, backoff: 1ms}, balance: {resolve: 200ms}"))
	awaitStates(p, "in ejected", func() {
		if r := p.Get("/svc"); r.Status != 200 || r.Header.Get("X-Endpoint") != "good" {
			t.Fatalf("%+v", r)
		}
	})
	if good.calls.Load() == 0 || bad.calls.Load() != 0 {
		t.Errorf("calls of the endpoints: %v", callsOf([]*server{good, bad}))
	}
}
