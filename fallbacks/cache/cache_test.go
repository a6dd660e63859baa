package cache_test

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
	"cbproxy/fallbacks/cache"
	"cbproxy/fallbacks/fallbacktest"
	_ "cbproxy/fallbacks/standard"
	"cbproxy/internal/events"
)

// startChain returns a started chain with only a cache. previous may be nil.
func startChain(t testing.TB, previous *fallbacks.Chain, change func(*cache.Options)) *fallbacks.Chain {
	t.Helper()
	c := newChain(t, previous, change)
	c.Start()
	return c
}

func newChain(t testing.TB, previous *fallbacks.Chain, change func(*cache.Options)) *fallbacks.Chain {
	t.Helper()
	o := cache.DefaultOptions()
	if change != nil {
		change(o)
	}
	c, err := fallbacks.NewChain([]string{"cache"}, map[string]any{"cache": o}, fallbacktest.Env(), previous)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// request returns a client's request for path. fields are names and values of header fields, alternating.
func request(method, path, body string, fields ...string) *fallbacktest.Client {
	return &fallbacktest.Client{Content: []byte(body), Req: fallbacks.Request{
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

// record passes a complete response to c and reports whether c has stored it.
func record(c *fallbacks.Chain, r *fallbacktest.Client, status int, h http.Header, parts ...string) bool {
	before := c.CacheStats().Stored
	if rec := c.Record(r, status, h); rec != nil {
		for _, part := range parts {
			rec.Write([]byte(part))
		}
		rec.Done()
	}
	return c.CacheStats().Stored > before
}

func ask(t testing.TB, c *fallbacks.Chain, r *fallbacktest.Client) (*fallbacks.Answer, error) {
	t.Helper()
	a, _, err := c.Answer(t.Context(), r, events.ReasonOpen)
	return a, err
}

// expectAnswer fails unless c answers r with the given body; "" means no answer.
func expectAnswer(t testing.TB, c *fallbacks.Chain, r *fallbacktest.Client, body string) {
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

// future is a Date that does not make a response old.
const future = "Fri, 01 Jan 2100 00:00:00 GMT"

func TestCacheAnswersWithTheLastSuccessfulResponse(t *testing.T) {
	c := startChain(t, nil, nil)
	newRequest := func() *fallbacktest.Client { return request("POST", "/ask", `{"q":1}`, "Authorization", "me") }
	expectAnswer(t, c, newRequest(), "")
	record(c, newRequest(), 200, header("Content-Type", "text/plain", "X-Twice", "a", "X-Twice", "b", "Content-Length", "5"), "ol", "d", "er")
	record(c, newRequest(), 203, header("Content-Type", "text/plain", "X-Twice", "a", "X-Twice", "b", "Date", future), "ne", "w")
	record(c, newRequest(), 500, header(), "bad")
	a, err := ask(t, c, newRequest())
	if err != nil {
		t.Fatal(err)
	}
	want := http.Header{"Content-Type": {"text/plain"}, "X-Twice": {"a", "b"}, "Date": {future}, "Age": {"0"}, "Cache-Status": {"cbproxy; hit"}, "Content-Length": {"3"}}
	if a.Status != 203 || string(a.Body) != "new" || fmt.Sprint(a.Header) != fmt.Sprint(want) {
		t.Errorf("got %d %q %v, want 203 new %v", a.Status, a.Body, a.Header, want)
	}
	s := c.CacheStats()
	if s.Hits != 1 || s.Misses != 1 || s.Stored != 2 || s.Evicted != 0 || s.Entries != 1 || s.Bytes < 3 {
		t.Errorf("stats %+v", s)
	}
}

func TestCacheStoresOnlyStorableResponses(t *testing.T) {
	whole := strings.Repeat("x", 100) // the longest body that is stored
	get, ok := func(fields ...string) *fallbacktest.Client { return request("GET", "/", "", fields...) }, header()
	for name, test := range map[string]struct {
		request *fallbacktest.Client
		status  int
		header  http.Header
		body    string
		stored  bool
	}{
		"plain":                      {get(), 200, ok, "x", true},
		"203":                        {get(), 203, ok, "x", true},
		"204":                        {get(), 204, ok, "", true},
		"no body":                    {get(), 200, header("Content-Length", "0"), "", true},
		"POST":                       {request("POST", "/", "q"), 200, ok, "x", true},
		"a method not listed":        {request("PUT", "/", "q"), 200, ok, "x", false},
		"HEAD":                       {request("HEAD", "/", ""), 200, ok, "", false},
		"201":                        {get(), 201, ok, "x", false},
		"206":                        {get(), 206, ok, "x", false},
		"301":                        {get(), 301, ok, "x", false},
		"304":                        {get(), 304, ok, "", false},
		"404":                        {get(), 404, ok, "x", false},
		"503":                        {get(), 503, ok, "x", false},
		"request no-store":           {get("Cache-Control", "No-Store"), 200, ok, "x", false},
		"request malformed":          {get("Cache-Control", "no-store;"), 200, ok, "x", false},
		"request no-cache":           {get("Cache-Control", "no-cache, max-age=0"), 200, ok, "x", true},
		"request with Range":         {get("Range", "bytes=0-1"), 200, ok, "x", false},
		"a long request body":        {request("POST", "/", strings.Repeat("q", 51)), 200, ok, "x", false},
		"the longest request body":   {request("POST", "/", strings.Repeat("q", 50)), 200, ok, "x", true},
		"no-store":                   {get(), 200, header("Cache-Control", "public, NO-STORE"), "x", false},
		"no-store on another line":   {get(), 200, header("Cache-Control", "public", "Cache-Control", "no-store"), "x", false},
		"private":                    {get(), 200, header("Cache-Control", "private,max-age=9"), "x", false},
		"private with names":         {get(), 200, header("Cache-Control", `max-age=9, Private="X-A, X-B"`), "x", false},
		"no-cache":                   {get(), 200, header("Cache-Control", "no-cache"), "x", false},
		"no-cache with names":        {get(), 200, header("Cache-Control", `no-cache="set-cookie"`), "x", false},
		"must-revalidate":            {get(), 200, header("Cache-Control", "max-age=9 , must-revalidate"), "x", false},
		"proxy-revalidate":           {get(), 200, header("Cache-Control", "proxy-revalidate"), "x", false},
		"quoted, no directive":       {get(), 200, header("Cache-Control", `x="a, no-store, \", private", max-age=1`), "x", true},
		"malformed":                  {get(), 200, header("Cache-Control", `x="no-store`), "x", false},
		"malformed, no comma":        {get(), 200, header("Cache-Control", "private; max-age=0"), "x", false},
		"stale at once":              {get(), 200, header("Cache-Control", "max-age=0"), "x", true},
		"s-maxage, stale at once":    {get(), 200, header("Cache-Control", "s-maxage=0, max-age=60"), "x", false},
		"s-maxage, invalid":          {get(), 200, header("Cache-Control", "s-maxage=-1"), "x", false},
		"s-maxage, stale by its Age": {get(), 200, header("Cache-Control", "s-maxage=60", "Age", "60"), "x", false},
		"s-maxage":                   {get(), 200, header("Cache-Control", "s-maxage=60"), "x", true},
		"Content-Range":              {get(), 200, header("Content-Range", "bytes 0-0/9"), "x", false},
		"Vary: *":                    {get(), 200, header("Vary", "Accept", "Vary", "Origin, *"), "x", false},
		"Vary with an invalid name":  {get(), 200, header("Vary", "a b"), "x", false},
		"event stream":               {get(), 200, header("Content-Type", "Text/Event-Stream; charset=utf-8"), "x", false},
		"gRPC":                       {get(), 200, header("Content-Type", "application/grpc+proto"), "x", false},
		"longest body":               {get(), 200, header("Content-Length", "100"), whole, true},
		"longest body, no length":    {get(), 200, ok, whole, true},
		"too long by its length":     {get(), 200, header("Content-Length", "101"), whole + "x", false},
		"too long as it passes":      {get(), 200, ok, whole + "x", false},
		"shorter than its length":    {get(), 200, header("Content-Length", "3"), "xx", false},
		"longer than its length":     {get(), 200, header("Content-Length", "3"), "xxxx", false},
		"invalid length":             {get(), 200, header("Content-Length", "-3"), "xxxx", true},
		"with credentials":           {get("Authorization", "a", "Cookie", "b"), 200, ok, "x", true},
		"with Set-Cookie":            {get(), 200, header("Set-Cookie", "a=b"), "x", true},
	} {
		t.Run(name, func(t *testing.T) {
			c := startChain(t, nil, func(o *cache.Options) {
				o.MaxEntryBytes, o.MaxRequestBytes, o.Methods = 100, 50, []string{"GET", "HEAD", "POST"}
			})
			if stored := record(c, test.request, test.status, test.header, strings.SplitAfter(test.body, "")...); stored != test.stored {
				t.Errorf("stored %t, want %t", stored, test.stored)
			}
			a, err := ask(t, c, test.request)
			if test.stored && (err != nil || string(a.Body) != test.body || a.Status != test.status) || !test.stored && err == nil {
				t.Errorf("asked again: %+v, %v", a, err)
			}
		})
	}
}

func TestCacheDiscardsIncompleteResponses(t *testing.T) {
	c, r := startChain(t, nil, nil), request("GET", "/", "")
	record(c, r, 200, header(), "whole")
	c.Record(r, 200, header()).Write([]byte("half"))
	expectAnswer(t, c, r, "whole")
}

func TestCacheDropsUnstorableFields(t *testing.T) {
	c, r := startChain(t, nil, nil), request("GET", "/", "")
	h := header("Connection", "close, x-hop", "X-Hop", "1", "Keep-Alive", "1", "Te", "1", "Trailer", "X-T", "Transfer-Encoding", "chunked",
		"Upgrade", "h2c", "Proxy-Authenticate", "Basic", "Proxy-Authentication-Info", "x", "Set-Cookie", "a=b", "Age", "5",
		"X-Fallback", "static", "X-Circuit-Breaker-State", "open", "Proxy-Status", "x", "Retry-After", "9",
		"Etag", `"1"`, "Cache-Status", "Origin; hit", "Cache-Control", "max-age=4", "Vary", "Accept", "Date", future)
	sent := h.Clone()
	record(c, r, 200, h, "x")
	if fmt.Sprint(h) != fmt.Sprint(sent) {
		t.Errorf("the response's header was changed to %v", h)
	}
	want := http.Header{
		"Etag": {`"1"`}, "Cache-Control": {"max-age=4"}, "Vary": {"Accept"}, "Age": {"5"}, "Content-Length": {"1"}, "Content-Type": nil,
		"Date": {future}, "Cache-Status": {"Origin; hit", "cbproxy; hit; ttl=-1"},
	}
	for range 2 { // the first answer must not change the second
		a, err := ask(t, c, r)
		if err != nil || fmt.Sprint(a.Header) != fmt.Sprint(want) {
			t.Errorf("got %v, %v, want %v", a, err, want)
		}
	}
	bare := startChain(t, nil, nil)
	record(bare, r, 200, header("Etag", `"1"`, "Cache-Status", "Origin; hit", "Cache-Control", "max-age=4", "Vary", "Accept", "Date", future), "x")
	if got, want := c.CacheStats().Bytes, bare.CacheStats().Bytes; got != want {
		t.Errorf("the entry has %d bytes, want %d as without the dropped fields", got, want)
	}
}

func TestCacheTrimsUnusedCapacity(t *testing.T) {
	body := strings.Repeat("x", 440) // the entry has 540 bytes, and a capacity of 768 if the body is appended in parts
	whole, inParts := startChain(t, nil, nil), startChain(t, nil, nil)
	record(whole, request("GET", "/", ""), 200, header(), body)
	record(inParts, request("GET", "/", ""), 200, header(), strings.SplitAfter(body, "")...)
	if got, want := inParts.CacheStats().Bytes, whole.CacheStats().Bytes; got != want {
		t.Errorf("the entry of a body in parts has %d bytes, that of a whole body %d", got, want)
	}
}

func TestCacheErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChain(t, nil, func(o *cache.Options) { o.MaxRequestBytes = 1 })
		record(c, request("GET", "/old", ""), 200, header(), "x")
		time.Sleep(10*time.Minute + 1)
		for want, r := range map[string]*fallbacktest.Client{
			"not in methods": request("PUT", "/", ""), "cache key: too large": request("POST", "/", "xx"),
			"is cached": request("GET", "/", ""), "too old": request("GET", "/old", ""),
		} {
			if _, err := ask(t, c, r); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q", err, want)
			}
		}
		if s := c.CacheStats(); s.Misses != 2 || s.Entries != 0 || s.Bytes != 0 {
			t.Errorf("stats %+v, want only the lookups counted as misses, and the old response removed", s)
		}
	})
}

func TestCacheKeepsTheLaterOfOverlappingResponses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, r := startChain(t, nil, nil), request("GET", "/", "")
		slow := c.Record(r, 200, header())
		time.Sleep(time.Second)
		record(c, r, 200, header(), "later")
		slow.Write([]byte("earlier"))
		slow.Done()
		expectAnswer(t, c, r, "later")
	})
}

func TestCacheSurvivesReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := func(i int) *fallbacktest.Client { return request("GET", fmt.Sprint("/", i), "") }
		old := startChain(t, nil, nil)
		for i := range 4 {
			record(old, path(i), 200, header(), "x")
		}
		late := old.Record(path(9), 200, header())
		next := newChain(t, old, func(o *cache.Options) { o.MaxEntries, o.TTL = 2, time.Minute })
		time.Sleep(2 * time.Minute)
		if s := old.CacheStats(); s.Entries != 4 || s.Evicted != 0 {
			t.Errorf("a configuration that is not in effect changed the cache: %+v", s)
		}
		expectAnswer(t, old, path(0), "x")

		next.Start()
		if s := next.CacheStats(); s.Entries != 2 || s.Evicted != 2 || s.Stored != 4 || s.Hits != 1 {
			t.Errorf("after the reload: %+v", s)
		}
		expectAnswer(t, next, path(0), "") // too old for the new ttl
		late.Done()                        // began before the reload
		if s := next.CacheStats(); s.Stored != 5 {
			t.Errorf("a response recorded across the reload is not stored: %+v", s)
		}

		again := startChain(t, next, nil)
		expectAnswer(t, again, path(3), "x") // not too old for the default ttl
		bare := startChain(t, again, func(o *cache.Options) { o.Vary = []string{"Accept"} })
		expectAnswer(t, bare, path(3), "") // another vary makes other keys
		expectAnswer(t, startChain(t, bare, nil), path(3), "x")
	})
}

func TestCacheIsSafeForConcurrentUse(t *testing.T) {
	c := startChain(t, nil, func(o *cache.Options) { o.MaxEntries = 5 })
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 300 {
				name := fmt.Sprint((i*7 + g) % 11)
				r := request("GET", "/"+name, "", "Accept", fmt.Sprint(i%2))
				record(c, r, 200, header("Vary", []string{"Accept", "Origin"}[i%3%2], "X", name), name)
				a, err := ask(t, c, r)
				if err == nil && (string(a.Body) != name || a.Header.Get("X") != name) {
					t.Errorf("asked for %s, got %+v", name, a)
				}
			}
		})
	}
	next := c
	for range 20 {
		next = startChain(t, next, func(o *cache.Options) { o.MaxEntries = 5 })
	}
	wg.Wait()
	if s := c.CacheStats(); s.Entries > 5 || s.Hits+s.Misses != 1200 {
		t.Errorf("stats %+v", s)
	}
}

func TestValidateReportsAllErrors(t *testing.T) {
	o := cache.DefaultOptions()
	o.Validate(func(path, message string) { t.Errorf("defaults: %s: %s", path, message) })
	o.Vary, o.Methods, o.MaxBytes = []string{"X-Key", "*", "a b", ""}, []string{"HEAD"}, o.MaxEntryBytes-1
	var faults []string
	o.Validate(func(path, _ string) { faults = append(faults, path) })
	if fmt.Sprint(faults) != "[vary[2] vary[3] vary[1] methods max_bytes]" {
		t.Errorf("errors at %v", faults)
	}
}

func TestCacheNeedsTheRequestBody(t *testing.T) {
	c := startChain(t, nil, nil)
	r := &brokenClient{*request("POST", "/", ""), errors.New("the client left")}
	if c.Record(r, 200, header()) != nil {
		t.Error("a response to a request without a known body is recorded")
	}
	if _, _, err := c.Answer(t.Context(), r, events.ReasonOpen); !errors.Is(err, r.err) {
		t.Errorf("error %v", err)
	}
}

// brokenClient is a client whose body is not available.
type brokenClient struct {
	fallbacktest.Client
	err error
}

func (c *brokenClient) Body(int64) ([]byte, error) { return nil, c.err }

// A test of the fallback gets the cached response. It is not counted, and does not save the response from being evicted.
func TestATestDoesNotChangeTheCache(t *testing.T) {
	c := startChain(t, nil, func(o *cache.Options) { o.MaxEntries = 2 })
	for _, path := range []string{"/a", "/b"} {
		record(c, request("GET", path, ""), 200, header(), "the body of "+path)
	}
	before := c.CacheStats()
	for path, want := range map[string]string{"/a": "the body of /a", "/none": ""} {
		a, _, err := c.Answer(t.Context(), request("GET", path, ""), events.ReasonTest)
		if (err == nil) != (want != "") || err == nil && (string(a.Body) != want || a.Header.Get("Age") == "") {
			t.Errorf("%s: %+v, %v", path, a, err)
		}
	}
	if after := c.CacheStats(); after != before {
		t.Errorf("the cache had %+v and has %+v", before, after)
	}
	record(c, request("GET", "/c", ""), 200, header(), "c")
	expectAnswer(t, c, request("GET", "/a", ""), "")
	expectAnswer(t, c, request("GET", "/b", ""), "the body of /b")
}

// A test of the fallback leaves a response in the cache that is too old, and does not answer with it.
func TestATestDoesNotUseAnOldResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChain(t, nil, func(o *cache.Options) { o.TTL = time.Minute })
		record(c, request("GET", "/a", ""), 200, header(), "a")
		time.Sleep(2 * time.Minute)
		if a, _, err := c.Answer(t.Context(), request("GET", "/a", ""), events.ReasonTest); err == nil || c.CacheStats().Entries != 1 {
			t.Errorf("%+v, %+v", a, c.CacheStats())
		}
	})
}
