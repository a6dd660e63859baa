package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// After a restart of the upstream, the pool is full of dead connections. A request is sent at most twice.
func TestRequestIsReplayedAtMostOnceOnDeadConnections(t *testing.T) {
	for name, available := range map[string]bool{"upstream restarted": true, "upstream still failing": false} {
		t.Run(name, func(t *testing.T) {
			const pool = 30
			var restarted atomic.Bool
			var received atomic.Int32
			var together sync.WaitGroup // makes the requests concurrent, so that each has its own connection
			together.Add(pool)
			url := rawUpstream(t, func(n int, c net.Conn, r *bufio.Reader) {
				for {
					if _, err := http.ReadRequest(r); err != nil {
						return
					}
					if restarted.Load() {
						received.Add(1)
						if n < pool || !available {
							return
						}
					} else {
						together.Done()
						together.Wait()
					}
					_, _ = io.WriteString(c, okResponse)
				}
			})
			_, address, recorded := start(t, routeConfig(url))
			var requests sync.WaitGroup
			for range pool {
				requests.Go(func() { get(t, "http://"+address+"/svc") })
			}
			requests.Wait()
			for range pool {
				recorded.next(t)
			}
			restarted.Store(true)
			res, _ := get(t, "http://"+address+"/svc")
			o := recorded.next(t)
			if received.Load() > 2 {
				t.Errorf("one request reached the upstream %d times", received.Load())
			}
			if available && (res.StatusCode != 200 || o.Result != events.ResultSuccess) {
				t.Errorf("status %d, %+v; want the replay's success", res.StatusCode, o)
			}
			if !available && (res.StatusCode != 502 || o.Failure == nil || o.Failure.Type != events.ErrorReset) {
				t.Errorf("status %d, %+v; want a reset", res.StatusCode, o)
			}
		})
	}
}

// All attempts of a request share one replay, whatever the number of idle connections.
func TestRetriesShareOneReplay(t *testing.T) {
	var received atomic.Int32
	url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			q, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if q.URL.Path == "/fails" {
				received.Add(1)
				return
			}
			_, _ = io.WriteString(c, okResponse)
		}
	})
	_, address, _ := start(t, routeConfig(url, "breaker: {fail_max: 0}", "retry: {attempts: 2, backoff: 5ms, budget: 1}"))
	ctx, cancel := context.WithCancel(t.Context())
	var background sync.WaitGroup
	for range 4 { // keep connections in the pool
		background.Go(func() {
			for ctx.Err() == nil {
				if res, err := http.Get("http://" + address + "/svc/succeeds"); err == nil {
					_ = res.Body.Close()
				}
			}
		})
	}
	for range 30 {
		received.Store(0)
		if res, _ := get(t, "http://"+address+"/svc/fails"); res.StatusCode != http.StatusBadGateway {
			t.Errorf("status %d", res.StatusCode)
		}
		if n := received.Load(); n > 4 {
			t.Errorf("%d requests, want at most four: the first, two retries and a replay", n)
		}
	}
	cancel()
	background.Wait()
}

// The pool keeps as many idle connections as there are concurrent requests. With a smaller pool most requests would need a new
// connection.
func TestConcurrentRequestsReuseConnections(t *testing.T) {
	var dialed atomic.Int32
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }))
	upstream.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			dialed.Add(1)
		}
	}
	upstream.Start()
	defer upstream.Close()
	_, address, _ := start(t, routeConfig(upstream.URL))
	const clients, each = 256, 20
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	var running sync.WaitGroup
	for range clients {
		running.Go(func() {
			for range each {
				res, err := client.Get("http://" + address + "/svc")
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
		})
	}
	running.Wait()
	if n := dialed.Load(); n > 2*clients {
		t.Errorf("%d requests of %d clients used %d connections", clients*each, clients, n)
	}
}

// An upstream host may disappear without closing its connections, so that requests on them get no response. A probe therefore uses a
// new connection.
func TestProbeUsesANewConnection(t *testing.T) {
	var moved atomic.Bool
	url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		before := !moved.Load()
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			if before && moved.Load() {
				continue // no response on connections from before the move
			}
			_, _ = io.WriteString(c, okResponse)
		}
	})
	server, address, recorded := start(t, routeConfig(url, "timeout: 0.3", "breaker: {fail_max: 1}"))
	get(t, "http://"+address+"/svc")
	moved.Store(true)
	server.Breaker("svc").Force(events.HalfOpen, 0, "test")
	recorded.next(t)
	if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 200 || server.Breaker("svc").State() != events.Closed {
		t.Errorf("status %d, breaker %v, %+v", res.StatusCode, server.Breaker("svc").State(), recorded.next(t))
	}
}
