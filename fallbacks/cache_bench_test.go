package fallbacks_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"cbproxy/fallbacks"
	"cbproxy/internal/events"
)

// usualQuestion is a POST with a body of 1 KiB, and usualHeader that of the response.
func usualQuestion() *client {
	r := request("POST", "/rag/ask", strings.Repeat("q", 1<<10), "Authorization", "Bearer 0123456789abcdef0123456789abcdef",
		"Content-Type", "application/json", "Accept", "*/*", "Accept-Encoding", "gzip", "User-Agent", "bench", "X-Forwarded-For", "127.0.0.1")
	r.request.Query = "k=10"
	return r
}

func usualHeader() http.Header {
	return header("Content-Type", "application/json", "Content-Length", "1024", "Date", "Mon, 02 Jan 2006 15:04:05 GMT",
		"Vary", "Accept-Encoding", "Cache-Control", "max-age=60", "Server", "bench", "X-Request-Id", "0123456789abcdef")
}

// BenchmarkCacheLearn tells what it costs to learn a response: to a question that is known, to one
// of ever new ones, and none at all.
func BenchmarkCacheLearn(b *testing.B) {
	part := make([]byte, 1<<10)
	h := usualHeader()
	known, fresh := usualQuestion(), usualQuestion()
	excluded := request("POST", "/", string(part), "Cache-Control", "no-store")
	for _, question := range []struct {
		name string
		ask  func(i int) *client
	}{
		{"known", func(int) *client { return known }},
		{"new", func(i int) *client { fresh.request.Query = strconv.Itoa(i); return fresh }},
		{"excluded", func(int) *client { return excluded }},
	} {
		b.Run(question.name, func(b *testing.B) {
			c := cacheChain(b, nil, nil)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if l := c.Learn(question.ask(i), 200, h); l != nil {
					l.Write(part)
					l.Done()
				}
			}
		})
	}
}

// BenchmarkAnswer compares a hit with a static answer, as the chain gives it and as a client
// gets it over loopback.
func BenchmarkAnswer(b *testing.B) {
	body := make([]byte, 1<<10)
	cached := cacheChain(b, nil, nil)
	learn(cached, usualQuestion(), 200, usualHeader(), string(body))
	static, err := fallbacks.NewChain([]string{"static"}, map[string]any{"static": &fallbacks.StaticOptions{Status: 200, Body: body}}, site(), nil)
	if err != nil {
		b.Fatal(err)
	}
	for _, strategy := range []struct {
		name  string
		chain *fallbacks.Chain
	}{{"static", static}, {"cache", cached}} {
		b.Run(strategy.name+"/chain", func(b *testing.B) {
			r := usualQuestion()
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

// benchmarkLoopback asks c through a server that reads requests' bodies as a proxy must.
func benchmarkLoopback(b *testing.B, c *fallbacks.Chain) {
	usual := usualQuestion()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, _ := io.ReadAll(r.Body)
		asked := &client{body: content, request: usual.request}
		a, _, err := c.Answer(r.Context(), asked, events.ReasonOpen)
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
		res, err := http.Post(server.URL, "application/json", strings.NewReader(string(usual.body)))
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		if _ = res.Body.Close(); res.StatusCode != http.StatusOK {
			b.Fatal(res.Status)
		}
	}
}
