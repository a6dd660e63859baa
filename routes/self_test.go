package routes_test

import (
	"strings"
	"testing"
)

// An upstream must not be the listen address in any spelling (package listen tests more of them).
func TestUpstreamMustNotBeListenAddress(t *testing.T) {
	for _, c := range []struct {
		listen, upstream string
		refused          bool
	}{
		{"", "http://127.0.0.1:8080", true}, // what is listened on by default
		{"", "http://localhost:8080/rag", true},
		{"", "http://127.0.0.1:8081", false},
		{"127.0.0.1:8080", "h2c://LOCALHOST.:8080", true},
		{"127.0.0.1:8080", "https://127.0.0.1:8080", true},
		{"127.0.0.1:8080", "http://rag:8080", false},
		{"127.0.0.1:80", "http://127.0.0.1", true},
		{"127.0.0.1:443", "https://127.0.0.1", true},
		{"127.0.0.1:80", "https://127.0.0.1", false},
		{"[::1]:8080", "http://[0:0::1]:8080", true},
		{"0.0.0.0:8080", "http://127.1.2.3:8080", true},
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
	if _, err := loader().Parse([]byte("defaults: {upstream: ['http://rag:8080', 'dns+http://localhost:8080']}\nroutes: {svc: {prefix: /svc}, other: {prefix: /other}}\n")); err == nil ||
		err.Error() != "config.yaml:1:42: defaults.upstream[1]: must not be the proxy's own listen address (127.0.0.1:8080), got dns+http://localhost:8080" {
		t.Errorf("in a list of the defaults: %v", err)
	}
	if _, err := loader().Parse([]byte("defaults: {upstream: 'http://127.0.0.1:8080'}\nroutes: {svc: {prefix: /svc}}\n")); err == nil || !strings.Contains(err.Error(), "defaults.upstream") {
		t.Errorf("in defaults: %v", err)
	}
}
