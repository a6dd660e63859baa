package fallbacks_test

import (
	"fmt"
	"testing"

	"cbproxy/fallbacks"
)

func TestNoCallerSeesAnothersAnswer(t *testing.T) {
	base := func() *client {
		return request("GET", "/a", "body", "Authorization", "me", "Cookie", "c=1", "Proxy-Authorization", "p", "Accept", "text/x")
	}
	set := func(name string, values ...string) func(*client) {
		return func(r *client) {
			delete(r.request.Header, name)
			if values != nil {
				r.request.Header[name] = values
			}
		}
	}
	c := cacheChain(t, nil, nil)
	learn(c, base(), 200, header("Vary", "accept"), "mine")
	answers(t, c, base(), "mine")
	for name, change := range map[string]func(*client){
		"method":                func(r *client) { r.request.Method = "POST" },
		"host":                  func(r *client) { r.request.Host = "other.test" },
		"path":                  func(r *client) { r.request.Path = "/b" },
		"empty query":           func(r *client) { r.request.EmptyQuery = true },
		"query of a ?":          func(r *client) { r.request.Query = "?" },
		"query":                 func(r *client) { r.request.Query = "x" },
		"body":                  func(r *client) { r.body = []byte("bodY") },
		"no body":               func(r *client) { r.body = nil },
		"Authorization":         set("Authorization", "you"),
		"no Authorization":      set("Authorization"),
		"empty Authorization":   set("Authorization", ""),
		"two Authorizations":    set("Authorization", "me", "me"),
		"Cookie":                set("Cookie", "c=2"),
		"no Cookie":             set("Cookie"),
		"Proxy-Authorization":   set("Proxy-Authorization", "q"),
		"what the Vary names":   set("Accept", "text/y"),
		"none of what it names": set("Accept"),
		"path runs into query":  func(r *client) { r.request.Path, r.request.Query = "/", "a" },
		"host runs into path":   func(r *client) { r.request.Host, r.request.Path = "proxy.test/", "a" },
		"fields change places":  func(r *client) { set("Authorization", "c=1")(r); set("Cookie", "me")(r) },
		"fields run together":   func(r *client) { set("Authorization", "mec=1")(r); set("Cookie", "")(r) },
		"values run together":   set("Authorization", "m", "e"),
	} {
		r := base()
		change(r)
		if a, err := ask(t, c, r); err == nil {
			t.Errorf("another %s: answered %q", name, a.Body)
		}
	}
	// Without their number, a field's values read as the next field's name and value.
	next, here := base(), base()
	next.request.Header["Authorization"], next.request.Header["Cookie"] = []string{"x"}, []string{"y", "Cookie"}
	here.request.Header["Authorization"], here.request.Header["Cookie"] = []string{"x", "Cookie", "y"}, nil
	learn(c, next, 200, header("Vary", "Accept"), "next")
	answers(t, c, here, "")
	unnamed := base()
	unnamed.request.Header.Set("User-Agent", "other")
	answers(t, c, unnamed, "mine")
}

func TestCacheFollowsTheNewestVary(t *testing.T) {
	c := cacheChain(t, nil, nil)
	in := func(language string) *client {
		return request("GET", "/", "", "Accept-Language", language, "Origin", "o")
	}
	learn(c, in("de"), 200, header("Vary", "Accept-Language, origin"), "hallo")
	learn(c, in("en"), 200, header("Vary", "Origin", "Vary", "Accept-Language"), "hello") // the order means nothing
	answers(t, c, in("de"), "hallo")
	answers(t, c, in("en"), "hello")
	answers(t, c, in("fr"), "")
	learn(c, in("en"), 200, header(), "one for all")
	answers(t, c, in("fr"), "one for all")
	answers(t, c, in("de"), "one for all")
	if s := cacheStats(c); s.Entries != 3 {
		t.Errorf("%d entries, want 3", s.Entries)
	}
}

func TestCacheAnswersHeadAsGet(t *testing.T) {
	for _, methods := range [][]string{{"GET"}, {"GET", "HEAD"}, {"POST"}} {
		c := cacheChain(t, nil, func(o *fallbacks.CacheOptions) { o.Methods = methods })
		learn(c, request("GET", "/", ""), 200, header("Etag", `"1"`), "hello")
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

func TestCacheKeepsAnEmptyQueryApart(t *testing.T) {
	with := func(query string, empty bool) *client {
		r := request("GET", "/x", "")
		r.request.Query, r.request.EmptyQuery = query, empty
		return r
	}
	c := cacheChain(t, nil, nil)
	for _, r := range []*client{with("", false), with("", true), with("?", false)} {
		answers(t, c, r, "")
		body := fmt.Sprintf("%q %v", r.request.Query, r.request.EmptyQuery)
		learn(c, r, 200, header(), body)
		answers(t, c, r, body)
	}
}
