package routes_test

import (
	"net"
	"os"
	"strings"
	"testing"
)

// An upstream must not be the listen address in any spelling that is known without resolving names.
func TestUpstreamMustNotBeListenAddress(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		listen, upstream string
		refused          bool
	}{
		{"", "http://127.0.0.1:8080", true}, // what is listened on by default
		{"", "http://localhost:8080/rag", true},
		{"", "http://127.0.0.1:8081", false},
		{"127.0.0.1:8080", "h2c://LOCALHOST.:8080", true},
		{"127.0.0.1:8080", "https://127.0.0.1:8080", true},
		{"127.0.0.1:8080", "http://[::ffff:127.0.0.1]:8080", true},
		{"127.0.0.1:8080", "http://0.0.0.0:8080", true},
		{"127.0.0.1:8080", "http://me.localhost:8080", true},
		{"127.0.0.1:8080", "http://127.0.0.2:8080", false},
		{"127.0.0.1:8080", "http://192.0.2.1:8080", false},
		{"127.0.0.1:8080", "http://rag:8080", false},
		{"127.0.0.1:80", "http://127.0.0.1", true},
		{"127.0.0.1:443", "https://127.0.0.1", true},
		{"127.0.0.1:80", "https://127.0.0.1", false},
		{"[::1]:8080", "http://[::1]:8080", true},
		{"[::1]:8080", "http://[0:0::1]:8080", true},
		{"[::1]:8080", "http://localhost:8080", true},
		{"[::1]:8080", "http://[::]:8080", true},
		{"[::1]:8080", "http://127.0.0.1:8080", false},
		{"localhost:8080", "http://127.0.0.1:8080", true},
		{"rag.internal:8080", "http://RAG.internal:8080", true},
		{"0.0.0.0:8080", "http://127.0.0.1:8080", true},
		{"0.0.0.0:8080", "http://127.1.2.3:8080", true},
		{"0.0.0.0:8080", "http://localhost:8080", true},
		{"0.0.0.0:8080", "http://[::1]:8080", false}, // where another process may listen
		{"0.0.0.0:8080", "http://192.0.2.1:8080", false},
		{":8080", "http://[::1]:8080", true},
		{"[::]:8080", "http://127.0.0.1:8080", true},
		{"[::]:8080", "http://rag:8080", false},
		{"127.0.0.1:0", "http://127.0.0.1:8080", false},
		{"unix:///run/proxy.sock", "http://127.0.0.1:8080", false},
	} {
		text := "routes: {svc: {prefix: /svc, upstream: '" + c.upstream + "'}}\n"
		if c.listen != "" {
			text += "listen: '" + c.listen + "'\n"
		}
		_, err := loader().Parse([]byte(text))
		if refused := err != nil && strings.Contains(err.Error(), "config.yaml:1:30: routes.svc.upstream: must not be the proxy's own listen address"); refused != c.refused || err != nil && !refused {
			t.Errorf("listen %q, upstream %s: %v, want refused %t", c.listen, c.upstream, err, c.refused)
		}
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		n, ok := a.(*net.IPNet)
		if !ok || n.IP.To4() == nil || n.IP.IsLoopback() {
			continue
		}
		for _, own := range []string{n.IP.String(), host} {
			if _, err := loader().Parse([]byte("listen: '0.0.0.0:8080'\nroutes: {svc: {prefix: /svc, upstream: 'http://" + own + ":8080'}}\n")); err == nil {
				t.Errorf("listen 0.0.0.0:8080, upstream %s: no fault", own)
			}
		}
	}
	if _, err := loader().Parse([]byte("defaults: {upstream: 'http://127.0.0.1:8080'}\nroutes: {svc: {prefix: /svc}}\n")); err == nil || !strings.Contains(err.Error(), "defaults.upstream") {
		t.Errorf("in defaults: %v", err)
	}
}
