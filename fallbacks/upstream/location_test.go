package upstream_test

import (
	"net/http"
	"testing"

	"cbproxy/fallbacks"
	"cbproxy/fallbacks/fallbacktest"
)

// A redirect of the second upstream to itself leads through the proxy, as one of the first does.
func TestRedirectLeadsThroughTheProxy(t *testing.T) {
	s := fallbacktest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Location"] = []string{"http://" + r.Host + r.URL.Path + "/"}
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	for name, c := range map[string]struct {
		path, rest   string
		preserveHost bool
		want         string
	}{
		"a stripped prefix":   {"/svc/items", "/items", false, "/svc/items/"},
		"the client's host":   {"/svc/items", "/items", true, "/svc/items/"},
		"a prefix that stays": {"/svc/items", "/svc/items", false, "/svc/items/"},
	} {
		o := newOptions(t, s.URL)
		o.PreserveHost = c.preserveHost
		chain := fallbacktest.NewChain(t, "upstream", o, fallbacktest.NewProcess().Env())
		chain.Start()
		t.Cleanup(chain.Close)
		a, err := fallbacktest.Answer(t, chain, &fallbacktest.Client{Req: fallbacks.Request{
			Method: "GET", Host: "client.example", Path: c.path, Rest: c.rest, Header: http.Header{},
		}})
		if err != nil || a.Header.Get("Location") != c.want {
			t.Errorf("%s: %v, %+v", name, err, a)
		}
	}
}
