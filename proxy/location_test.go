package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// redirectingUpstream answers as frameworks do that redirect to a path with a slash at its end: 307 to an address made of the Host field.
// A path with a slash at its end is answered with the path and the X-Forwarded-Prefix.
func redirectingUpstream(t testing.TB) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/") {
			w.Header().Set("Content-Location", r.URL.Path+"index")
			_, _ = fmt.Fprintf(w, "%s below %q", r.URL.RequestURI(), r.Header["X-Forwarded-Prefix"])
			return
		}
		query := ""
		if r.URL.RawQuery != "" {
			query = "?" + r.URL.RawQuery
		}
		w.Header()["Location"] = []string{"http://" + r.Host + r.URL.EscapedPath() + "/" + query}
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	t.Cleanup(s.Close)
	return s
}

// A redirect of the upstream to itself must lead through the proxy. Otherwise its clients call the upstream directly from then on, without
// the breaker, or get a 404 from the proxy.
func TestRedirectsLeadThroughTheProxy(t *testing.T) {
	upstream := redirectingUpstream(t)
	for name, c := range map[string]struct {
		keys                      []string
		base, location, body, end string
	}{
		"a stripped prefix":   {nil, "", "/svc/items/?q=1", `/items/?q=1 below ["/svc"]`, "/svc/items/index"},
		"the client's host":   {[]string{"preserve_host: true"}, "", "/svc/items/?q=1", `/items/?q=1 below ["/svc"]`, "/svc/items/index"},
		"a prefix that stays": {[]string{"strip_prefix: false"}, "", "/svc/items/?q=1", `/svc/items/?q=1 below []`, "/svc/items/index"},
		"a base path":         {nil, "/base", "/svc/items/?q=1", `/base/items/?q=1 below ["/svc"]`, "/svc/items/index"},
		"a stream":            {[]string{"stream_commit: first_byte", "response_buffer: 0"}, "", "/svc/items/?q=1", `/items/?q=1 below ["/svc"]`, "/svc/items/index"},
	} {
		t.Run(name, func(t *testing.T) {
			_, address, _ := start(t, routeConfig(upstream.URL+c.base, c.keys...))
			var locations []string
			client := &http.Client{CheckRedirect: func(r *http.Request, _ []*http.Request) error {
				locations = append(locations, r.Response.Header.Get("Location"))
				if r.URL.Host != address {
					return fmt.Errorf("redirected to %v", r.URL)
				}
				return nil
			}}
			res, err := client.Get("http://" + address + "/svc/items?q=1")
			if err != nil {
				t.Fatal(err)
			}
			body := bodyOf(t, res)
			if fmt.Sprint(locations) != fmt.Sprint([]string{c.location}) || body != c.body || res.Header.Get("Content-Location") != c.end {
				t.Errorf("locations %q, %q, Content-Location %q", locations, body, res.Header.Get("Content-Location"))
			}
		})
	}
}

func TestLocationIsNotRewrittenIfDisabled(t *testing.T) {
	upstream := redirectingUpstream(t)
	_, address, _ := start(t, routeConfig(upstream.URL, "rewrite_location: false"))
	res, err := http.DefaultTransport.RoundTrip(httptest.NewRequest("GET", "http://"+address+"/svc/items", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got := res.Header.Get("Location"); got != upstream.URL+"/items/" {
		t.Errorf("Location %q", got)
	}
}

// An address in a cached response leads through the proxy as the original one did, below the prefix that its client used.
func TestCachedLocationLeadsThroughTheProxy(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Location"] = []string{"/moved"}
		_, _ = io.WriteString(w, "ok")
	}))
	_, address, _ := start(t, "routes:\n  svc: {prefix: [/svc, /other], upstream: '"+upstream.URL+"', fallback: f}\nfallbacks: {f: {try: [cache]}}\n")
	for _, running := range []bool{true, false} {
		if !running {
			upstream.Close()
		}
		for _, prefix := range []string{"/svc", "/other"} {
			res, err := http.DefaultTransport.RoundTrip(httptest.NewRequest("GET", "http://"+address+prefix+"/x", nil))
			if err != nil {
				t.Fatal(err)
			}
			bodyOf(t, res)
			if got := res.Header.Get("Content-Location"); got != prefix+"/moved" || (res.Header.Get("X-Fallback") == "cache") == running {
				t.Errorf("%s, upstream running: %v: %d, Content-Location %q, X-Fallback %q", prefix, running, res.StatusCode, got, res.Header.Get("X-Fallback"))
			}
		}
	}
}

// A client's own X-Forwarded-Prefix, however spelled, does not reach the upstream.
func TestForwardedPrefixIsTheProxys(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%q %q", r.Header["X-Forwarded-Prefix"], r.Header["X_forwarded_prefix"])
	}))
	t.Cleanup(upstream.Close)
	for keys, want := range map[string]string{"strip_prefix: true": `["/svc"] []`, "strip_prefix: false": `[] []`} {
		_, address, _ := start(t, routeConfig(upstream.URL, keys))
		r, err := http.NewRequest("GET", "http://"+address+"/svc/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header["X-Forwarded-Prefix"], r.Header["X_forwarded_prefix"] = []string{"/evil"}, []string{"/evil"}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if body := bodyOf(t, res); body != want {
			t.Errorf("%s: %s, want %s", keys, body, want)
		}
	}
}

// bodyOf reads and closes a response's body.
func bodyOf(t testing.TB, res *http.Response) string {
	t.Helper()
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
