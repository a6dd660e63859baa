package proxy_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"

	"cbproxy/internal/events"
)

// requestsToReplay are requests that may be sent again if the upstream has not processed them.
var requestsToReplay = map[string]func(address string) *http.Request{
	"GET": func(address string) *http.Request {
		r, _ := http.NewRequest(http.MethodGet, "http://"+address+"/svc", nil)
		return r
	},
	"POST": func(address string) *http.Request {
		r, _ := http.NewRequest(http.MethodPost, "http://"+address+"/svc", strings.NewReader(strings.Repeat("x", 50_000)))
		return r
	},
	"POST of unknown length": func(address string) *http.Request {
		r, _ := http.NewRequest(http.MethodPost, "http://"+address+"/svc", io.MultiReader(strings.NewReader("x")))
		return r
	},
	"gRPC": func(address string) *http.Request {
		r, _ := http.NewRequest(http.MethodPost, "http://"+address+"/svc", strings.NewReader("\x00\x00\x00\x00\x00"))
		r.Header.Set("Content-Type", "application/grpc")
		return r
	},
}

// A request that the upstream reports as not processed is sent again, even if it is not idempotent, and is no failure.
func TestUnprocessedRequestIsReplayed(t *testing.T) {
	refusals := map[string]func(f *frameConn, stream uint32){
		"REFUSED_STREAM": func(f *frameConn, stream uint32) { _ = f.WriteRSTStream(stream, http2.ErrCodeRefusedStream) },
		"GOAWAY":         func(f *frameConn, stream uint32) { _ = f.WriteGoAway(stream-1, http2.ErrCodeNo, nil) },
	}
	for protocol, secured := range map[string]bool{"h2c": false, "https": true} {
		for refusal, refuse := range refusals {
			for kind, request := range requestsToReplay {
				t.Run(protocol+" "+refusal+" "+kind, func(t *testing.T) {
					var refused atomic.Bool
					url, keys := frameUpstream(t, secured, func(_ int, f *frameConn) {
						f.eachStream(func(stream uint32, _ bool) {
							if stream > 1 && refused.CompareAndSwap(false, true) { // the first stream of a connection is a separate case
								refuse(f, stream)
								return
							}
							f.respond(stream, "200", "ok")
						})
					})
					server, address, recorded := start(t, routeConfig(url, keys, "breaker: {fail_max: 1}"))
					client := h2cClient(t)
					get(t, "http://"+address+"/svc") // uses the first stream
					recorded.next(t)
					res, err := client.Do(request(address))
					if err != nil {
						t.Fatal(err)
					}
					body, err := io.ReadAll(res.Body)
					_ = res.Body.Close()
					o := recorded.next(t)
					if res.StatusCode != 200 || string(body) != "ok" || err != nil || !refused.Load() {
						t.Errorf("status %d, %q, %v", res.StatusCode, body, err)
					}
					if o.Failure != nil || server.Breaker("svc").State() != events.Closed {
						t.Errorf("%+v, the breaker is %v", o, server.Breaker("svc").State())
					}
				})
			}
		}
	}
}

// An upstream that closes its connections with GOAWAY after a number of requests, as nginx does by default, makes no request fail.
func TestGoAwayFailsNoRequest(t *testing.T) {
	for protocol, secured := range map[string]bool{"h2c": false, "https": true} {
		t.Run(protocol, func(t *testing.T) {
			url, keys := frameUpstream(t, secured, func(_ int, f *frameConn) {
				f.eachStream(func(stream uint32, _ bool) {
					switch {
					case stream == 201: // earlier streams have been answered
						_ = f.WriteGoAway(199, http2.ErrCodeNo, nil)
					case stream < 201:
						f.respond(stream, "200", "ok")
					}
				})
			})
			server, address, _ := start(t, routeConfig(url, keys, "breaker: {fail_max: 1}"))
			var clients sync.WaitGroup
			for i := range 8 {
				client := h2cClient(t)
				clients.Go(func() {
					for range 150 {
						r, _ := http.NewRequest(http.MethodPost, "http://"+address+"/svc", bytes.NewReader([]byte("x")))
						if i%2 == 0 {
							r, _ = http.NewRequest(http.MethodGet, "http://"+address+"/svc", nil)
						}
						res, err := client.Do(r)
						if err != nil {
							t.Error(err)
							return
						}
						if _, err := io.Copy(io.Discard, res.Body); res.StatusCode != 200 || err != nil {
							t.Errorf("status %d, %v", res.StatusCode, err)
						}
						_ = res.Body.Close()
					}
				})
			}
			clients.Wait()
			if s := server.Breaker("svc").Status(); s.State != events.Closed {
				t.Errorf("%+v", s)
			}
		})
	}
}

// If the upstream refuses every stream, the request fails within the route's timeout.
func TestRefusalOfEveryStreamIsAFailure(t *testing.T) {
	for kind, request := range requestsToReplay {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			url, keys := frameUpstream(t, false, func(_ int, f *frameConn) {
				f.eachStream(func(stream uint32, _ bool) { _ = f.WriteRSTStream(stream, http2.ErrCodeRefusedStream) })
			})
			_, address, recorded := start(t, routeConfig(url, keys, "breaker: {fail_max: 1}"))
			res, err := h2cClient(t).Do(request(address))
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if o := recorded.next(t); o.Failure == nil || o.Failure.Type != events.ErrorReset {
				t.Errorf("%+v", o)
			}
		})
	}
}
