package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// An upstream that restarts leaves a pool of dead connections behind.
func TestRequestIsReplayedAtMostOnceOnDeadConnections(t *testing.T) {
	for name, revives := range map[string]bool{"upstream is back": true, "upstream stays dead": false} {
		t.Run(name, func(t *testing.T) {
			const pool = 30
			var restarted atomic.Bool
			var hits atomic.Int32
			var together sync.WaitGroup // so that each request needs a connection of its own
			together.Add(pool)
			url := rawUpstream(t, func(n int, c net.Conn, r *bufio.Reader) {
				for {
					if _, err := http.ReadRequest(r); err != nil {
						return
					}
					if restarted.Load() {
						hits.Add(1)
						if n < pool || !revives {
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
			if hits.Load() > 2 {
				t.Errorf("one request hit the upstream %d times", hits.Load())
			}
			if revives && (res.StatusCode != 200 || o.Result != events.ResultSuccess) {
				t.Errorf("status %d, %+v; want the replay's success", res.StatusCode, o)
			}
			if !revives && (res.StatusCode != 502 || o.Failure == nil || o.Failure.Type != events.ErrorReset) {
				t.Errorf("status %d, %+v; want a reset", res.StatusCode, o)
			}
		})
	}
}

// Retries have a replay between them, and not one each, however many idle connections there are.
func TestRetriesShareOneReplay(t *testing.T) {
	var hits atomic.Int32
	url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			q, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if q.URL.Path == "/dies" {
				hits.Add(1)
				return
			}
			_, _ = io.WriteString(c, okResponse)
		}
	})
	_, address, _ := start(t, routeConfig(url, "breaker: {fail_max: 0}", "retry: {attempts: 2, backoff: 5ms, budget: 1}"))
	ctx, cancel := context.WithCancel(t.Context())
	var others sync.WaitGroup
	for range 4 { // who keep connections in the pool
		others.Go(func() {
			for ctx.Err() == nil {
				if res, err := http.Get("http://" + address + "/svc/lives"); err == nil {
					_ = res.Body.Close()
				}
			}
		})
	}
	for range 30 {
		hits.Store(0)
		if res, _ := get(t, "http://"+address+"/svc/dies"); res.StatusCode != http.StatusBadGateway {
			t.Errorf("status %d", res.StatusCode)
		}
		if n := hits.Load(); n > 4 {
			t.Errorf("%d requests, want one, two retries and one replay at most", n)
		}
	}
	cancel()
	others.Wait()
}

// The upstream answers and closes with most of the upload unread, so that the proxy's
// writes are reset.
func TestResponseDuringUploadIsDelivered(t *testing.T) {
	url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
		}
	})
	_, address, recorded := start(t, routeConfig(url, "breaker: {fail_max: 1}"))
	upload := bytes.Repeat([]byte("x"), 8<<20)
	for i := range 20 {
		body := io.Reader(bytes.NewReader(upload))
		if i%2 == 1 {
			body = io.MultiReader(body) // of unknown length
		}
		res, err := http.Post("http://"+address+"/svc", "text/plain", body)
		if err != nil {
			t.Fatalf("upload %d: %v", i, err)
		}
		answer, err := io.ReadAll(res.Body)
		if res.StatusCode != 413 || string(answer) != "big" {
			t.Fatalf("upload %d: status %d, body %q, %v", i, res.StatusCode, answer, err)
		}
		_ = res.Body.Close()
		if o := recorded.next(t); o.Result != events.ResultSuccess {
			t.Fatalf("upload %d: %+v", i, o)
		}
	}
}

// A client that reads only once it has sent everything gets its answer as well where the upstream has died in
// between.
func TestUpstreamFailureDuringUploadIsAnswered(t *testing.T) {
	const piece, pieces = 16 << 10, 50
	url := rawUpstream(t, func(_ int, _ net.Conn, r *bufio.Reader) { _, _ = r.Discard(piece) })
	_, address, _ := start(t, routeConfig(url, "breaker: {fail_max: 0}"))
	for name, upload := range map[string]struct{ head, before, after string }{
		"of known length": {fmt.Sprintf("Content-Length: %d", piece*pieces), "", ""},
		"chunked":         {"Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n", piece), "\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprintf(c, "POST /svc HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", upload.head)
			for n := range pieces {
				if _, err := io.WriteString(c, upload.before+strings.Repeat("x", piece)+upload.after); err != nil {
					t.Fatalf("piece %d: %v", n, err)
				}
				time.Sleep(2 * time.Millisecond) // it takes its time
			}
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.StatusCode != http.StatusBadGateway || !res.Close {
				t.Errorf("%+v", res)
			}
		})
	}
}

func TestUpstreamFailuresAreClassified(t *testing.T) {
	for name, c := range map[string]struct {
		response string // "" closes at once; "hang" never answers
		status   int
		kind     events.ErrorType
	}{
		"closes":              {"", 502, events.ErrorReset},
		"hangs":               {"hang", 504, events.ErrorTimeout},
		"cut in the header":   {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", 502, events.ErrorReset},
		"cut in a small body": {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", 502, events.ErrorTruncated},
		"not HTTP":            {"SSH-2.0-OpenSSH_9\r\n\r\n", 502, events.ErrorProtocol},
		"status 000":          {"HTTP/1.1 000 Odd\r\nContent-Length: 0\r\n\r\n", 502, events.ErrorProtocol},
		"status 099":          {"HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n", 502, events.ErrorProtocol},
		"unasked 101":         {"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", 502, events.ErrorProtocol},
		"bad length":          {"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", 502, events.ErrorProtocol},
		"failing status":      {"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\nno", 503, events.ErrorStatus},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := rawUpstream(t, func(_ int, conn net.Conn, r *bufio.Reader) {
				_, _ = http.ReadRequest(r)
				if c.response == "hang" {
					_, _ = r.ReadByte() // until the proxy gives up
					return
				}
				_, _ = io.WriteString(conn, c.response)
			})
			server, address, recorded := start(t, routeConfig(url, "timeout: 0.3", "breaker: {fail_max: 1}"))
			res, body := get(t, "http://"+address+"/svc")
			if res.StatusCode != c.status {
				t.Errorf("status %d, want %d", res.StatusCode, c.status)
			}
			o := recorded.next(t)
			if o.Result != events.ResultFailure || o.Failure.Type != c.kind {
				t.Errorf("outcome %+v %+v, want %s", o, o.Failure, c.kind)
			}
			if state := server.Breaker("svc").State(); state != events.Open {
				t.Errorf("breaker is %v after a failure with fail_max 1", state)
			}
			if c.kind == events.ErrorStatus {
				if body != "no" || res.Header.Get("Retry-After") != "7" {
					t.Errorf("the upstream's own answer was changed: %v %q", res.Header, body)
				}
			} else if strings.Contains(body, "127.0.0.1") || res.Header.Get("Proxy-Status") == "" {
				t.Errorf("problem %q with Proxy-Status %q", body, res.Header.Get("Proxy-Status"))
			}
		})
	}
}

func TestClientErrorsRecordNoFailure(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer upstream.Close()
	server, address, recorded := start(t, "limits: {body_bytes: 64KiB}\n"+routeConfig(upstream.URL, "timeout: 0.5", "breaker: {fail_max: 1}"))
	chunk := "8000\r\n" + strings.Repeat("x", 0x8000) + "\r\n"
	for name, c := range map[string]struct{ request, status string }{
		"malformed chunk": {"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n", "400"},
		"too long":        {"Content-Length: 70000\r\n\r\n", "413"},
		"too many chunks": {"Transfer-Encoding: chunked\r\n\r\n" + chunk + chunk + chunk, "413"},
		"too slow":        {"Content-Length: 10\r\n\r\nabc", "408"},
		"cut short":       {"Content-Length: 10\r\n\r\nabc" + halfClose, "400"},
		"cut in a chunk":  {"Transfer-Encoding: chunked\r\n\r\n5\r\nabc" + halfClose, "400"},
	} {
		t.Run(name, func(t *testing.T) {
			status := rawStatusLine(t, address, "POST /svc HTTP/1.1\r\nHost: x\r\n"+c.request)
			if !strings.Contains(status, " "+c.status+" ") {
				t.Errorf("%s, want %s", status, c.status)
			}
			if o := recorded.next(t); o.Result != events.ResultCancelled || o.Failure != nil {
				t.Errorf("outcome %+v", o)
			}
		})
	}
	if state := server.Breaker("svc").State(); state != events.Closed {
		t.Errorf("clients opened the breaker: %v", state)
	}
}

// A stream that has begun can't be taken back: the client must see that it was cut.
func TestTruncatedStreamIsTruncatedForTheClient(t *testing.T) {
	url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
	})
	_, address, recorded := start(t, routeConfig(url))
	res, err := http.Get("http://" + address + "/svc")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err == nil || string(body) != "hello" {
		t.Errorf("read %q, %v; want the beginning and an error", body, err)
	}
	if o := recorded.next(t); o.Failure == nil || o.Failure.Type != events.ErrorTruncated {
		t.Errorf("outcome %+v %+v", o, o.Failure)
	}
}

func TestIdleStreamIsCut(t *testing.T) {
	url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
		_, _ = r.ReadByte()
	})
	_, address, recorded := start(t, routeConfig(url, "idle_timeout: 0.3"))
	res, err := http.Get("http://" + address + "/svc")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.ReadAll(res.Body); err == nil {
		t.Error("the silent stream ended cleanly")
	}
	if o := recorded.next(t); o.Failure == nil || o.Failure.Type != events.ErrorIdle {
		t.Errorf("outcome %+v %+v", o, o.Failure)
	}
}

// The places of probes come back, whatever becomes of them.
func TestEndlessStreamClosesAHalfOpenBreaker(t *testing.T) {
	url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
		_, _ = r.ReadByte()
	})
	server, address, _ := start(t, routeConfig(url))
	server.Breaker("svc").Force(events.HalfOpen, 0, "")
	res, err := http.Get("http://" + address + "/svc")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got := res.Header.Get("X-Circuit-Breaker-State"); got != "half-open" {
		t.Errorf("decided by state %q", got)
	}
	if state := server.Breaker("svc").State(); state != events.Closed {
		t.Errorf("breaker is %v while the probe streams", state)
	}
}

func TestClientDisconnectReleasesProbePermit(t *testing.T) {
	arrived := make(chan struct{}, 1)
	url := rawUpstream(t, func(n int, c net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		if n == 0 {
			arrived <- struct{}{}
			_, _ = r.ReadByte()
			return
		}
		_, _ = io.WriteString(c, okResponse)
	})
	server, address, recorded := start(t, routeConfig(url))
	server.Breaker("svc").Force(events.HalfOpen, 0, "")
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-arrived; leave() }()
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/svc", nil)
	if _, err := http.DefaultClient.Do(r); err == nil {
		t.Fatal("the client did not leave")
	}
	if o := recorded.next(t); o.Result != events.ResultCancelled {
		t.Errorf("outcome %+v", o)
	}
	if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 200 {
		t.Errorf("the next probe: status %d", res.StatusCode)
	}
	if state := server.Breaker("svc").State(); state != events.Closed {
		t.Errorf("breaker is %v", state)
	}
}

// panicHandler is a log handler that panics where the request path logs a failure.
type panicHandler struct{ slog.Handler }

func (p panicHandler) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "upstream failed" {
		panic("handler is broken")
	}
	return nil
}

func (p panicHandler) Enabled(context.Context, slog.Level) bool { return true }
func (p panicHandler) WithAttrs([]slog.Attr) slog.Handler       { return p }

func TestPanicIsAnsweredWith502AndRecorded(t *testing.T) {
	p := startProxy(t, routeConfig(closedPort(t)), proxyOptions{logger: slog.New(panicHandler{slog.DiscardHandler})})
	server, address, recorded := p.Server, p.address, p.recorded
	server.Breaker("svc").Force(events.HalfOpen, 0, "")
	res, body := get(t, "http://"+address+"/svc")
	if res.StatusCode != 502 || !strings.Contains(res.Header.Get("Proxy-Status"), "proxy_internal_error") {
		t.Errorf("status %d, %s", res.StatusCode, body)
	}
	if o := recorded.next(t); o.Result != events.ResultFailure {
		t.Errorf("outcome %+v", o)
	}
	b := server.Breaker("svc")
	if state := b.State(); state != events.HalfOpen {
		t.Errorf("a fault of the proxy's own moved the breaker to %v", state)
	}
	if _, err := b.Allow(); err != nil {
		t.Errorf("the probe's place did not come back: %v", err)
	}
}

func TestFallbackReplacesFailureStatusIfConfigured(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Secret", "upstream's")
		w.WriteHeader(500)
	}))
	defer upstream.Close()
	text := routeConfig(upstream.URL) + "fallbacks: {svc: {when: [status], static: {status: 203, headers: {X-From: fallback}, body: {a: 0.0}}}}\n"
	_, address, _ := start(t, text)
	res, body := get(t, "http://"+address+"/svc")
	h := res.Header
	if res.StatusCode != 203 || body != `{"a":0.0}` || h.Get("X-From") != "fallback" || h.Get("X-Secret") != "" ||
		h.Get("X-Fallback") != "static" || h.Get("X-Fallback-Reason") != "status" {
		t.Errorf("%d %s %v", res.StatusCode, body, h)
	}
}

// churn: a pool smaller than the load would dial for most requests.
func TestConcurrentRequestsReuseConnections(t *testing.T) {
	var dialled atomic.Int32
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }))
	upstream.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			dialled.Add(1)
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
	if n := dialled.Load(); n > 2*clients {
		t.Errorf("%d requests of %d clients took %d connections", clients*each, clients, n)
	}
}

// Clients that leave while their empty responses arrive must not take other clients'
// requests with them, let alone put the blame on the upstream.
func TestClientDisconnectsDoNotAffectOtherRequests(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	server, address, _ := start(t, routeConfig(upstream.URL, "breaker: {fail_max: 1}"))
	var running sync.WaitGroup
	for range 16 {
		running.Go(func() {
			for range 150 {
				c, err := net.Dial("tcp", address)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.WriteString(c, "GET /svc HTTP/1.1\r\nHost: x\r\n\r\n")
				_ = c.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			}
		})
	}
	for range 8 {
		running.Go(func() {
			for range 400 {
				if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 200 {
					t.Errorf("status %d", res.StatusCode)
				}
			}
		})
	}
	running.Wait()
	if state := server.Breaker("svc").State(); state != events.Closed {
		t.Errorf("the breaker is %v", state)
	}
}

// An upstream that went away without a word leaves connections behind on which nothing is
// ever answered. Recovery is tested on a new one.
func TestProbeUsesANewConnection(t *testing.T) {
	var moved atomic.Bool
	url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		before := !moved.Load()
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			if before && moved.Load() {
				continue // the connection is closed
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
