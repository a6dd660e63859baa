package endpoints

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"cbproxy/internal/certtest"
	"cbproxy/internal/e2e/harness"
)

// serverTLS returns the configuration of a server whose certificate has the given name.
func serverTLS(t testing.TB, authority *certtest.Authority, name string) *tls.Config {
	t.Helper()
	c, key := authority.Sign(t, name)
	pair, err := tls.X509KeyPair(c, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}}
}

// Each endpoint of a list is verified by its own name, and the one with a wrong certificate is ejected.
func TestEachEndpointHasItsOwnCertificate(t *testing.T) {
	t.Parallel()
	authority := certtest.NewAuthority(t)
	var servers []*server
	for _, certificate := range []string{"localhost", "127.0.0.1", "other.test"} {
		s := startServerAt(t, certificate, harness.FreeAddress(t), serverTLS(t, authority, certificate))
		s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "server name "+r.TLS.ServerName+", host "+r.Host)
		})
		servers = append(servers, s)
	}
	_, port, _ := net.SplitHostPort(servers[0].address)
	list := fmt.Sprintf("[https://localhost:%s, %s, %s]", port, servers[1].url(), servers[2].url())
	ca := certtest.Write(t, t.TempDir(), "ca.pem", authority.PEM)
	p := start(t, list, "tls: {ca_file: "+ca+"}, retry: {attempts: 1, budget: 1, backoff: 1ms}, balance: {policy: round_robin}")
	bodies := map[string]bool{}
	awaitStates(p, "in in ejected", func() {
		r := p.Get("/svc")
		if r.Status != 200 {
			t.Fatalf("%+v", r)
		}
		bodies[r.Body] = true
	})
	if !bodies["server name localhost, host localhost:"+port] || !bodies["server name , host "+servers[1].address] || len(bodies) != 2 {
		t.Errorf("%v", bodies)
	}
	if s := statusOf(p); s.State != "closed" || s.FailCounter != 0 {
		t.Errorf("%+v", s)
	}
}
