package fallbacks_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/internal/events"
)

// cacheChain returns a chain of a cache that is started; before is the one until now, or nil.
func cacheChain(t testing.TB, before *fallbacks.Chain, change func(*fallbacks.CacheOptions)) *fallbacks.Chain {
	t.Helper()
	c := unstartedCacheChain(t, before, change)
	c.Start()
	return c
}

func unstartedCacheChain(t testing.TB, before *fallbacks.Chain, change func(*fallbacks.CacheOptions)) *fallbacks.Chain {
	t.Helper()
	o := cacheOptions()
	if change != nil {
		change(o)
	}
	c, err := fallbacks.NewChain([]string{"cache"}, map[string]any{"cache": o}, site(), before)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func cacheOptions() *fallbacks.CacheOptions {
	return fallbacks.Options()["cache"]().(*fallbacks.CacheOptions)
}

func cacheStats(c *fallbacks.Chain) fallbacks.CacheStats {
	return c.Strategy("cache").(interface{ CacheStats() fallbacks.CacheStats }).CacheStats()
}

// request is a client's request for path with the given fields, a name and a value in turn.
func request(method, path, body string, fields ...string) *client {
	return &client{body: []byte(body), request: fallbacks.Request{
		Service: "svc", Method: method, Host: "proxy.test", Path: path, Header: header(fields...),
	}}
}

func header(fields ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(fields); i += 2 {
		h.Add(fields[i], fields[i+1])
	}
	return h
}

// learn tells c of a whole response and reports whether c has kept it.
func learn(c *fallbacks.Chain, r *client, status int, h http.Header, parts ...string) bool {
	before := cacheStats(c).Stored
	if l := c.Learn(r, status, h); l != nil {
		for _, part := range parts {
			l.Write([]byte(part))
		}
		l.Done()
	}
	return cacheStats(c).Stored > before
}

func ask(t testing.TB, c *fallbacks.Chain, r *client) (*fallbacks.Answer, error) {
	t.Helper()
	a, _, err := c.Answer(t.Context(), r, events.ReasonOpen)
	return a, err
}

// answers checks that c answers r with the given body; "" stands for no answer.
func answers(t testing.TB, c *fallbacks.Chain, r *client, body string) {
	t.Helper()
	a, err := ask(t, c, r)
	switch {
	case body == "" && err == nil:
		t.Errorf("answered %q, want no answer", a.Body)
	case body != "" && err != nil:
		t.Errorf("no answer, want %q: %v", body, err)
	case body != "" && string(a.Body) != body:
		t.Errorf("answered %q, want %q", a.Body, body)
	}
}

func TestCacheAnswersWithTheLastGoodResponse(t *testing.T) {
	c := cacheChain(t, nil, nil)
	question := func() *client { return request("POST", "/ask", `{"q":1}`, "Authorization", "me") }
	answers(t, c, question(), "")
	learn(c, question(), 200, header("Content-Type", "text/plain", "X-Twice", "a", "X-Twice", "b", "Content-Length", "5"), "ol", "d", "er")
	learn(c, question(), 203, header("Content-Type", "text/plain", "X-Twice", "a", "X-Twice", "b"), "ne", "w")
	learn(c, question(), 500, header(), "bad")
	a, err := ask(t, c, question())
	if err != nil {
		t.Fatal(err)
	}
	want := http.Header{"Content-Type": {"text/plain"}, "X-Twice": {"a", "b"}, "Age": {"0"}, "Cache-Status": {"cbproxy; hit"}, "Content-Length": {"3"}}
	if a.Status != 203 || string(a.Body) != "new" || fmt.Sprint(a.Header) != fmt.Sprint(want) {
		t.Errorf("got %d %q %v, want 203 new %v", a.Status, a.Body, a.Header, want)
	}
	s := cacheStats(c)
	if s.Hits != 1 || s.Misses != 1 || s.Stored != 2 || s.Evicted != 0 || s.Entries != 1 || s.Bytes < 3 {
		t.Errorf("stats %+v", s)
	}
}

func TestCacheKeepsOnlyWhatMayBeKept(t *testing.T) {
	whole := strings.Repeat("x", 100) // the longest that is kept
	get, ok := func(fields ...string) *client { return request("GET", "/", "", fields...) }, header()
	for name, test := range map[string]struct {
		request *client
		status  int
		header  http.Header
		body    string
		kept    bool
	}{
		"plain":                    {get(), 200, ok, "x", true},
		"203":                      {get(), 203, ok, "x", true},
		"204":                      {get(), 204, ok, "", true},
		"no body":                  {get(), 200, header("Content-Length", "0"), "", true},
		"POST":                     {request("POST", "/", "q"), 200, ok, "x", true},
		"a method not listed":      {request("PUT", "/", "q"), 200, ok, "x", false},
		"HEAD":                     {request("HEAD", "/", ""), 200, ok, "", false},
		"201":                      {get(), 201, ok, "x", false},
		"206":                      {get(), 206, ok, "x", false},
		"301":                      {get(), 301, ok, "x", false},
		"304":                      {get(), 304, ok, "", false},
		"404":                      {get(), 404, ok, "x", false},
		"503":                      {get(), 503, ok, "x", false},
		"request no-store":         {get("Cache-Control", "No-Store"), 200, ok, "x", false},
		"request malformed":        {get("Cache-Control", "no-store;"), 200, ok, "x", false},
		"request no-cache":         {get("Cache-Control", "no-cache, max-age=0"), 200, ok, "x", true},
		"request with Range":       {get("Range", "bytes=0-1"), 200, ok, "x", false},
		"a long question":          {request("POST", "/", strings.Repeat("q", 51)), 200, ok, "x", false},
		"the longest question":     {request("POST", "/", strings.Repeat("q", 50)), 200, ok, "x", true},
		"no-store":                 {get(), 200, header("Cache-Control", "public, NO-STORE"), "x", false},
		"no-store on another line": {get(), 200, header("Cache-Control", "public", "Cache-Control", "no-store"), "x", false},
		"private":                  {get(), 200, header("Cache-Control", "private,max-age=9"), "x", false},
		"private with names":       {get(), 200, header("Cache-Control", `max-age=9, Private="X-A, X-B"`), "x", false},
		"no-cache":                 {get(), 200, header("Cache-Control", "no-cache"), "x", false},
		"no-cache with names":      {get(), 200, header("Cache-Control", `no-cache="set-cookie"`), "x", false},
		"must-revalidate":          {get(), 200, header("Cache-Control", "max-age=9 , must-revalidate"), "x", false},
		"proxy-revalidate":         {get(), 200, header("Cache-Control", "proxy-revalidate"), "x", false},
		"quoted, no directive":     {get(), 200, header("Cache-Control", `x="a, no-store, \", private", max-age=1`), "x", true},
		"malformed":                {get(), 200, header("Cache-Control", `x="no-store`), "x", false},
		"malformed, no comma":      {get(), 200, header("Cache-Control", "private; max-age=0"), "x", false},
		"stale at once":            {get(), 200, header("Cache-Control", "max-age=0"), "x", true},
		"s-maxage, stale at once":  {get(), 200, header("Cache-Control", "s-maxage=0, max-age=60"), "x", false},
		"s-maxage, senseless":      {get(), 200, header("Cache-Control", "s-maxage=-1"), "x", false},
		"s-maxage, older by now":   {get(), 200, header("Cache-Control", "s-maxage=60", "Age", "60"), "x", false},
		"s-maxage":                 {get(), 200, header("Cache-Control", "s-maxage=60"), "x", true},
		"Content-Range":            {get(), 200, header("Content-Range", "bytes 0-0/9"), "x", false},
		"Vary: *":                  {get(), 200, header("Vary", "Accept", "Vary", "Origin, *"), "x", false},
		"Vary with no name":        {get(), 200, header("Vary", "a b"), "x", false},
		"event stream":             {get(), 200, header("Content-Type", "Text/Event-Stream; charset=utf-8"), "x", false},
		"gRPC":                     {get(), 200, header("Content-Type", "application/grpc+proto"), "x", false},
		"longest body":             {get(), 200, header("Content-Length", "100"), whole, true},
		"longest body, no length":  {get(), 200, ok, whole, true},
		"too long by its length":   {get(), 200, header("Content-Length", "101"), whole + "x", false},
		"too long as it passes":    {get(), 200, ok, whole + "x", false},
		"shorter than its length":  {get(), 200, header("Content-Length", "3"), "xx", false},
		"longer than its length":   {get(), 200, header("Content-Length", "3"), "xxxx", false},
		"length that is none":      {get(), 200, header("Content-Length", "-3"), "xxxx", true},
		"with credentials":         {get("Authorization", "a", "Cookie", "b"), 200, ok, "x", true},
		"with Set-Cookie":          {get(), 200, header("Set-Cookie", "a=b"), "x", true},
	} {
		t.Run(name, func(t *testing.T) {
			c := cacheChain(t, nil, func(o *fallbacks.CacheOptions) {
				o.MaxEntryBytes, o.MaxRequestBytes, o.Methods = 100, 50, []string{"GET", "HEAD", "POST"}
			})
			if kept := learn(c, test.request, test.status, test.header, strings.SplitAfter(test.body, "")...); kept != test.kept {
				t.Errorf("kept %t, want %t", kept, test.kept)
			}
			a, err := ask(t, c, test.request)
			if test.kept && (err != nil || string(a.Body) != test.body || a.Status != test.status) || !test.kept && err == nil {
				t.Errorf("asked again: %+v, %v", a, err)
			}
		})
	}
}

func TestCacheForgetsWhatItIsNeverToldTheEndOf(t *testing.T) {
	c, r := cacheChain(t, nil, nil), request("GET", "/", "")
	learn(c, r, 200, header(), "whole")
	c.Learn(r, 200, header()).Write([]byte("half"))
	answers(t, c, r, "whole")
}

func TestCacheDropsFieldsOfOneRequestOrConnection(t *testing.T) {
	c, r := cacheChain(t, nil, nil), request("GET", "/", "")
	h := header("Connection", "close, x-hop", "X-Hop", "1", "Keep-Alive", "1", "Te", "1", "Trailer", "X-T", "Transfer-Encoding", "chunked",
		"Upgrade", "h2c", "Proxy-Authenticate", "Basic", "Proxy-Authentication-Info", "x", "Set-Cookie", "a=b", "Age", "5",
		"X-Fallback", "static", "X-Circuit-Breaker-State", "open", "Proxy-Status", "x", "Retry-After", "9",
		"Etag", `"1"`, "Cache-Status", "Origin; hit", "Cache-Control", "max-age=4", "Vary", "Accept")
	sent := h.Clone()
	learn(c, r, 200, h, "x")
	if fmt.Sprint(h) != fmt.Sprint(sent) {
		t.Errorf("the response's header was changed to %v", h)
	}
	want := http.Header{
		"Etag": {`"1"`}, "Cache-Control": {"max-age=4"}, "Vary": {"Accept"}, "Age": {"5"}, "Content-Length": {"1"}, "Content-Type": nil,
		"Cache-Status": {"Origin; hit", "cbproxy; hit; ttl=-1"},
	}
	for range 2 { // the first answer must not change the second
		a, err := ask(t, c, r)
		if err != nil || fmt.Sprint(a.Header) != fmt.Sprint(want) {
			t.Errorf("got %v, %v, want %v", a, err, want)
		}
	}
	bare := cacheChain(t, nil, nil)
	learn(bare, r, 200, header("Etag", `"1"`, "Cache-Status", "Origin; hit", "Cache-Control", "max-age=4", "Vary", "Accept"), "x")
	if got, want := cacheStats(c).Bytes, cacheStats(bare).Bytes; got != want {
		t.Errorf("%d bytes are kept, %d without the fields that are dropped", got, want)
	}
}

func TestCacheHoldsNoSlackOfABodyWithoutALength(t *testing.T) {
	body := strings.Repeat("x", 520) // grown by parts it has place for 848
	whole, inParts := cacheChain(t, nil, nil), cacheChain(t, nil, nil)
	learn(whole, request("GET", "/", ""), 200, header(), body)
	learn(inParts, request("GET", "/", ""), 200, header(), strings.SplitAfter(body, "")...)
	if got, want := cacheStats(inParts).Bytes, cacheStats(whole).Bytes; got != want {
		t.Errorf("%d bytes are kept of a body in parts, %d of a whole one", got, want)
	}
}

func TestCacheSaysWhyItHasNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := cacheChain(t, nil, func(o *fallbacks.CacheOptions) { o.MaxRequestBytes = 1 })
		learn(c, request("GET", "/old", ""), 200, header(), "x")
		time.Sleep(10*time.Minute + 1)
		for want, r := range map[string]*client{
			"not in methods": request("PUT", "/", ""), "body: too large": request("POST", "/", "xx"),
			"is known": request("GET", "/", ""), "too old": request("GET", "/old", ""),
		} {
			if _, err := ask(t, c, r); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q", err, want)
			}
		}
		if s := cacheStats(c); s.Misses != 2 || s.Entries != 0 || s.Bytes != 0 {
			t.Errorf("stats %+v, want the lookups alone as misses and the old response gone", s)
		}
	})
}

func TestCacheTellsAgeAndFreshness(t *testing.T) {
	for name, test := range map[string]struct {
		header      http.Header
		after       time.Duration
		age, status string // "" for no answer
	}{
		"nothing said":            {header(), 1999 * time.Millisecond, "1", "cbproxy; hit"},
		"at the end of ttl":       {header(), 10 * time.Minute, "600", "cbproxy; hit"},
		"after ttl":               {header("Cache-Control", "max-age=9999"), 10*time.Minute + 1, "", ""},
		"fresh":                   {header("Cache-Control", "max-age=60"), 20 * time.Second, "20", "cbproxy; hit; ttl=40"},
		"stale":                   {header("Cache-Control", "max-age=60"), 72 * time.Second, "72", "cbproxy; hit; ttl=-12"},
		"an age of its own":       {header("Cache-Control", `MAX-AGE="60"`, "Age", "50"), 15 * time.Second, "65", "cbproxy; hit; ttl=-5"},
		"an age that is none":     {header("Age", "-5"), time.Second, "1", "cbproxy; hit"},
		"two ages":                {header("Age", "7, 9"), time.Second, "8", "cbproxy; hit"},
		"an endless age":          {header("Age", strings.Repeat("9", 30)), 0, "2147483648", "cbproxy; hit"},
		"max-age that is none":    {header("Cache-Control", "max-age=soon"), 2 * time.Second, "2", "cbproxy; hit; ttl=-2"},
		"max-age twice":           {header("Cache-Control", "max-age=60, max-age=30"), 0, "0", "cbproxy; hit; ttl=30"},
		"Expires":                 {header("Date", "Mon, 02 Jan 2006 15:04:05 GMT", "Expires", "Mon, 02 Jan 2006 15:05:05 GMT"), 20 * time.Second, "20", "cbproxy; hit; ttl=40"},
		"Expires without Date":    {header("Expires", "Sat, 01 Jan 2000 00:01:00 GMT"), 20 * time.Second, "20", "cbproxy; hit; ttl=40"},
		"Expires that is none":    {header("Expires", "0"), 2 * time.Second, "2", "cbproxy; hit; ttl=-2"},
		"max-age before Expires":  {header("Cache-Control", "max-age=5", "Expires", "0"), 0, "0", "cbproxy; hit; ttl=5"},
		"s-maxage before max-age": {header("Cache-Control", "max-age=5, s-maxage=60"), 59 * time.Second, "59", "cbproxy; hit; ttl=1"},
		"s-maxage is never stale": {header("Cache-Control", "s-maxage=60"), 60 * time.Second, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // begins on 1 January 2000
				c, r := cacheChain(t, nil, nil), request("GET", "/", "", "Cache-Control", "no-cache")
				learn(c, r, 200, test.header, "x")
				time.Sleep(test.after)
				a, err := ask(t, c, r)
				if test.age == "" {
					if err == nil {
						t.Errorf("answered %v", a.Header)
					}
					return
				}
				if err != nil || a.Header.Get("Age") != test.age || a.Header.Get("Cache-Status") != test.status {
					t.Errorf("got %+v, %v", a, err)
				}
			})
		})
	}
}

func TestCacheKeepsTheLaterResponseWhateverBodyEndsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, r := cacheChain(t, nil, nil), request("GET", "/", "")
		slow := c.Learn(r, 200, header())
		time.Sleep(time.Second)
		learn(c, r, 200, header(), "later")
		slow.Write([]byte("earlier"))
		slow.Done()
		answers(t, c, r, "later")
	})
}

func TestCacheSurvivesReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := func(i int) *client { return request("GET", fmt.Sprint("/", i), "") }
		old := cacheChain(t, nil, nil)
		for i := range 4 {
			learn(old, path(i), 200, header(), "x")
		}
		late := old.Learn(path(9), 200, header())
		next := unstartedCacheChain(t, old, func(o *fallbacks.CacheOptions) { o.MaxEntries, o.TTL = 2, time.Minute })
		time.Sleep(2 * time.Minute)
		if s := cacheStats(old); s.Entries != 4 || s.Evicted != 0 {
			t.Errorf("a configuration that is not in force changed the cache: %+v", s)
		}
		answers(t, old, path(0), "x")

		next.Start()
		if s := cacheStats(next); s.Entries != 2 || s.Evicted != 2 || s.Stored != 4 || s.Hits != 1 {
			t.Errorf("after the reload: %+v", s)
		}
		answers(t, next, path(0), "") // known, and too old by the new ttl
		late.Done()                   // began before the reload
		if s := cacheStats(next); s.Stored != 5 {
			t.Errorf("what was learnt over the reload is lost: %+v", s)
		}

		again := cacheChain(t, next, nil)
		answers(t, again, path(3), "x") // young enough again
		bare := cacheChain(t, again, func(o *fallbacks.CacheOptions) { o.Vary = nil })
		answers(t, bare, path(3), "") // another vary asks other questions
		answers(t, cacheChain(t, bare, nil), path(3), "x")
	})
}

func TestCacheIsSafeForConcurrentUse(t *testing.T) {
	c := cacheChain(t, nil, func(o *fallbacks.CacheOptions) { o.MaxEntries = 5 })
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 300 {
				name := fmt.Sprint((i*7 + g) % 11)
				r := request("GET", "/"+name, "", "Accept", fmt.Sprint(i%2))
				learn(c, r, 200, header("Vary", []string{"Accept", "Origin"}[i%3%2], "X", name), name)
				a, err := ask(t, c, r)
				if err == nil && (string(a.Body) != name || a.Header.Get("X") != name) {
					t.Errorf("asked for %s, got %+v", name, a)
				}
			}
		})
	}
	next := c
	for range 20 {
		next = cacheChain(t, next, func(o *fallbacks.CacheOptions) { o.MaxEntries = 5 })
	}
	all.Wait()
	if s := cacheStats(c); s.Entries > 5 || s.Hits+s.Misses != 1200 {
		t.Errorf("stats %+v", s)
	}
}

func TestCacheOptionsReportEveryFault(t *testing.T) {
	o := cacheOptions()
	o.Validate(func(path, message string) { t.Errorf("defaults: %s: %s", path, message) })
	o.Vary, o.Methods, o.MaxBytes = []string{"X-Key", "*", "a b", ""}, []string{"HEAD"}, o.MaxEntryBytes-1
	var faults []string
	o.Validate(func(path, _ string) { faults = append(faults, path) })
	if fmt.Sprint(faults) != "[vary[2] vary[3] vary[1] methods max_bytes]" {
		t.Errorf("faults at %v", faults)
	}
}

func TestCacheHasNoQuestionWithoutTheBody(t *testing.T) {
	c := cacheChain(t, nil, nil)
	r := &brokenClient{*request("POST", "/", ""), errors.New("the client left")}
	if c.Learn(r, 200, header()) != nil {
		t.Error("learns from a request whose body is not known")
	}
	if _, _, err := c.Answer(t.Context(), r, events.ReasonOpen); !errors.Is(err, r.err) {
		t.Errorf("error %v", err)
	}
}

// brokenClient is a client whose body is not known.
type brokenClient struct {
	client
	err error
}

func (c *brokenClient) Body(int64) ([]byte, error) { return nil, c.err }
