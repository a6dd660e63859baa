package cache_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"cbproxy/fallbacks"
	"cbproxy/fallbacks/fallbacktest"
	_ "cbproxy/fallbacks/standard"
	"cbproxy/fallbacks/static"
	"cbproxy/internal/events"
)

// typicalRequest returns a POST with a body of 1 KiB, typicalHeader the header of its response.
func typicalRequest() *fallbacktest.Client {
	r := request("POST", "/rag/ask", strings.Repeat("q", 1<<10), "Authorization", "Bearer 0123456789abcdef0123456789abcdef",
		"Content-Type", "application/json", "Accept", "*/*", "Accept-Encoding", "gzip", "User-Agent", "bench", "X-Forwarded-For", "127.0.0.1")
	r.Req.Query = "k=10"
	return r
}

func typicalHeader() http.Header {
	return header("Content-Type", "application/json", "Content-Length", "1024", "Date", "Mon, 02 Jan 2006 15:04:05 GMT",
		"Vary", "Accept-Encoding", "Cache-Control", "max-age=60", "Server", "bench", "X-Request-Id", "0123456789abcdef")
}

// BenchmarkRecord records responses to a cached request, to new requests, and to one whose response
// must not be stored.
func BenchmarkRecord(b *testing.B) {
	part := make([]byte, 1<<10)
	h := typicalHeader()
	known, fresh := typicalRequest(), typicalRequest()
	excluded := request("POST", "/", string(part), "Cache-Control", "no-store")
	for _, bench := range []struct {
		name    string
		request func(i int) *fallbacktest.Client
	}{
		{"cached", func(int) *fallbacktest.Client { return known }},
		{"new", func(i int) *fallbacktest.Client { fresh.Req.Query = strconv.Itoa(i); return fresh }},
		{"excluded", func(int) *fallbacktest.Client { return excluded }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			c := startChain(b, nil, nil)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if rec := c.Record(bench.request(i), 200, h); rec != nil {
					rec.Write(part)
					rec.Done()
				}
			}
		})
	}
}

// BenchmarkAnswer compares a cache hit with a static answer, without and with a connection over
// loopback.
func BenchmarkAnswer(b *testing.B) {
	body := make([]byte, 1<<10)
	cached := startChain(b, nil, nil)
	record(cached, typicalRequest(), 200, typicalHeader(), string(body))
	constant := fallbacktest.NewChain(b, "static", &static.Options{Status: 200, Body: body}, fallbacktest.Env())
	for _, strategy := range []struct {
		name  string
		chain *fallbacks.Chain
	}{{"static", constant}, {"cache", cached}} {
		b.Run(strategy.name+"/chain", func(b *testing.B) {
			r := typicalRequest()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ask(b, strategy.chain, r); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(strategy.name+"/loopback", func(b *testing.B) { benchmarkLoopback(b, strategy.chain) })
	}
}

// benchmarkLoopback sends requests to a server that reads their bodies and answers from c.
func benchmarkLoopback(b *testing.B, c *fallbacks.Chain) {
	typical := typicalRequest()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, _ := io.ReadAll(r.Body)
		client := &fallbacktest.Client{Content: content, Req: typical.Req}
		a, _, err := c.Answer(r.Context(), client, events.ReasonOpen)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		for name, values := range a.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(a.Status)
		_, _ = w.Write(a.Body)
	}))
	b.Cleanup(server.Close)
	for b.Loop() {
		res, err := http.Post(server.URL, "application/json", strings.NewReader(string(typical.Content)))
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		if _ = res.Body.Close(); res.StatusCode != http.StatusOK {
			b.Fatal(res.Status)
		}
	}
}
