package cache_test

import (
	"fmt"
	"testing"

	"cbproxy/fallbacks"
	"cbproxy/fallbacks/cache"
	"cbproxy/fallbacks/fallbacktest"
	_ "cbproxy/fallbacks/standard"
)

// Credentials are part of the key whatever vary has.
func TestKeysOfDifferentRequestsDiffer(t *testing.T) {
	for _, vary := range [][]string{{"Authorization"}, nil, {"Accept-Language"}} {
		t.Run(fmt.Sprint(vary), func(t *testing.T) {
			testKeysDiffer(t, startChain(t, nil, func(o *cache.Options) { o.Vary = vary }))
		})
	}
}

func testKeysDiffer(t *testing.T, c *fallbacks.Chain) {
	t.Helper()
	base := func() *fallbacktest.Client {
		return request("GET", "/a", "body", "Authorization", "me", "Cookie", "c=1", "Proxy-Authorization", "p", "Accept", "text/x")
	}
	set := func(name string, values ...string) func(*fallbacktest.Client) {
		return func(r *fallbacktest.Client) {
			delete(r.Req.Header, name)
			if values != nil {
				r.Req.Header[name] = values
			}
		}
	}
	record(c, base(), 200, header("Vary", "accept"), "mine")
	expectAnswer(t, c, base(), "mine")
	for name, change := range map[string]func(*fallbacktest.Client){
		"method":                func(r *fallbacktest.Client) { r.Req.Method = "POST" },
		"host":                  func(r *fallbacktest.Client) { r.Req.Host = "other.test" },
		"path":                  func(r *fallbacktest.Client) { r.Req.Path = "/b" },
		"empty query":           func(r *fallbacktest.Client) { r.Req.EmptyQuery = true },
		"query of a ?":          func(r *fallbacktest.Client) { r.Req.Query = "?" },
		"query":                 func(r *fallbacktest.Client) { r.Req.Query = "x" },
		"body":                  func(r *fallbacktest.Client) { r.Content = []byte("bodY") },
		"no body":               func(r *fallbacktest.Client) { r.Content = nil },
		"Authorization":         set("Authorization", "you"),
		"no Authorization":      set("Authorization"),
		"empty Authorization":   set("Authorization", ""),
		"two Authorizations":    set("Authorization", "me", "me"),
		"Cookie":                set("Cookie", "c=2"),
		"no Cookie":             set("Cookie"),
		"Proxy-Authorization":   set("Proxy-Authorization", "q"),
		"what the Vary names":   set("Accept", "text/y"),
		"none of what it names": set("Accept"),
		"path runs into query":  func(r *fallbacktest.Client) { r.Req.Path, r.Req.Query = "/", "a" },
		"host runs into path":   func(r *fallbacktest.Client) { r.Req.Host, r.Req.Path = "proxy.test/", "a" },
		"fields change places":  func(r *fallbacktest.Client) { set("Authorization", "c=1")(r); set("Cookie", "me")(r) },
		"fields run together":   func(r *fallbacktest.Client) { set("Authorization", "mec=1")(r); set("Cookie", "")(r) },
		"values run together":   set("Authorization", "m", "e"),
	} {
		r := base()
		change(r)
		if a, err := ask(t, c, r); err == nil {
			t.Errorf("another %s: answered %q", name, a.Body)
		}
	}
	// The number of values is part of the key: without it, a field's values could be read as the next field.
	next, here := base(), base()
	next.Req.Header["Authorization"], next.Req.Header["Cookie"] = []string{"x"}, []string{"y", "Cookie"}
	here.Req.Header["Authorization"], here.Req.Header["Cookie"] = []string{"x", "Cookie", "y"}, nil
	record(c, next, 200, header("Vary", "Accept"), "next")
	expectAnswer(t, c, here, "")
	unnamed := base()
	unnamed.Req.Header.Set("User-Agent", "other")
	expectAnswer(t, c, unnamed, "mine")
}

func TestCacheUsesTheNewestVary(t *testing.T) {
	c := startChain(t, nil, nil)
	in := func(language string) *fallbacktest.Client {
		return request("GET", "/", "", "Accept-Language", language, "Origin", "o")
	}
	record(c, in("de"), 200, header("Vary", "Accept-Language, origin"), "hallo")
	record(c, in("en"), 200, header("Vary", "Origin", "Vary", "Accept-Language"), "hello") // the order does not matter
	expectAnswer(t, c, in("de"), "hallo")
	expectAnswer(t, c, in("en"), "hello")
	expectAnswer(t, c, in("fr"), "")
	record(c, in("en"), 200, header(), "shared")
	expectAnswer(t, c, in("fr"), "shared")
	expectAnswer(t, c, in("de"), "shared")
	if s := c.CacheStats(); s.Entries != 3 {
		t.Errorf("%d entries, want 3", s.Entries)
	}
}

func TestCacheAnswersHEADFromGET(t *testing.T) {
	for _, methods := range [][]string{{"GET"}, {"GET", "HEAD"}, {"POST"}} {
		c := startChain(t, nil, func(o *cache.Options) { o.Methods = methods })
		record(c, request("GET", "/", ""), 200, header("Etag", `"1"`), "hello")
		a, err := ask(t, c, request("HEAD", "/", ""))
		switch {
		case methods[0] == "POST":
			if err == nil {
				t.Errorf("%v: got %+v", methods, a)
			}
		case err != nil || a.Status != 200 || a.Header.Get("Content-Length") != "5" || a.Header.Get("Etag") != `"1"`:
			t.Errorf("%v: got %+v, %v", methods, a, err)
		}
	}
}

func TestKeysDistinguishAnEmptyQuery(t *testing.T) {
	with := func(query string, empty bool) *fallbacktest.Client {
		r := request("GET", "/x", "")
		r.Req.Query, r.Req.EmptyQuery = query, empty
		return r
	}
	c := startChain(t, nil, nil)
	for _, r := range []*fallbacktest.Client{with("", false), with("", true), with("?", false)} {
		expectAnswer(t, c, r, "")
		body := fmt.Sprintf("%q %v", r.Req.Query, r.Req.EmptyQuery)
		record(c, r, 200, header(), body)
		expectAnswer(t, c, r, body)
	}
}
