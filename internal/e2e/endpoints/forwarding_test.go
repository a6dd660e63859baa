package endpoints

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// Endpoints with different base paths: each gets requests below its own, and its redirects lead clients back to the proxy.
func TestEachEndpointHasItsOwnBasePath(t *testing.T) {
	t.Parallel()
	servers, _ := startServers(t, 2)
	for i, s := range servers {
		s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if want := fmt.Sprintf("/base%d/x?q=1", i); r.RequestURI != want || r.Host != s.address {
				t.Errorf("%s got %s of host %s, want %s", s.name, r.RequestURI, r.Host, want)
			}
			if got := r.Header.Get("X-Forwarded-Prefix") + " " + r.Header.Get("X-Forwarded-Host"); !strings.HasPrefix(got, "/svc 127.0.0.1:") || strings.HasSuffix(got, s.address) {
				t.Errorf("X-Forwarded-Prefix and -Host: %s", got)
			}
			http.Redirect(w, r, fmt.Sprintf("%s/base%d/next", s.url(), i), http.StatusFound)
		})
	}
	p := start(t, fmt.Sprintf("[%s/base0, %s/base1]", servers[0].url(), servers[1].url()), "balance: {policy: round_robin}")
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for range 4 {
		res, err := client.Get(p.URL + "/svc/x?q=1")
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if got := strings.TrimPrefix(res.Header.Get("Location"), p.URL); res.StatusCode != 302 || got != "/svc/next" {
			t.Errorf("%d, redirected to %s", res.StatusCode, got)
		}
	}
	if got := fmt.Sprint(callsOf(servers)); got != "[2 2]" {
		t.Errorf("calls of the endpoints: %s", got)
	}
}
