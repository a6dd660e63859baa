package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"cbproxy/internal/events"
)

func TestUpstreamFailuresAreClassified(t *testing.T) {
	for name, c := range map[string]struct {
		response string // "": the upstream closes the connection; "hang": it never responds
		status   int
		kind     events.ErrorType
	}{
		"connection closed":        {"", 502, events.ErrorReset},
		"no response":              {"hang", 504, events.ErrorTimeout},
		"truncated header section": {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", 502, events.ErrorReset},
		"truncated body":           {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", 502, events.ErrorTruncated},
		"not HTTP":                 {"SSH-2.0-OpenSSH_9\r\n\r\n", 502, events.ErrorProtocol},
		"status 000":               {"HTTP/1.1 000 Odd\r\nContent-Length: 0\r\n\r\n", 502, events.ErrorProtocol},
		"status 099":               {"HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n", 502, events.ErrorProtocol},
		"unrequested 101":          {"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", 502, events.ErrorProtocol},
		"invalid Content-Length":   {"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", 502, events.ErrorProtocol},
		"failure status":           {"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\nRetry-After: 7\r\n\r\nno", 503, events.ErrorStatus},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := rawUpstream(t, func(_ int, conn net.Conn, r *bufio.Reader) {
				_, _ = http.ReadRequest(r)
				if c.response == "hang" {
					_, _ = r.ReadByte() // until the proxy closes the connection
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
					t.Errorf("the upstream's response was changed: %v %q", res.Header, body)
				}
			} else if strings.Contains(body, "127.0.0.1") || res.Header.Get("Proxy-Status") == "" {
				t.Errorf("problem %q with Proxy-Status %q", body, res.Header.Get("Proxy-Status"))
			}
		})
	}
}

// Errors of the client are answered with a 4xx status and count neither as success nor as failure of the upstream.
func TestClientErrorsRecordNoFailure(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer upstream.Close()
	server, address, recorded := start(t, "limits: {body_bytes: 64KiB}\n"+routeConfig(upstream.URL, "timeout: 0.5", "breaker: {fail_max: 1}"))
	chunk := "8000\r\n" + strings.Repeat("x", 0x8000) + "\r\n"
	t.Run("requests", func(t *testing.T) { // returns after the last of them
		for name, c := range map[string]struct{ request, status string }{
			"malformed chunk":      {"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n", "400"},
			"too long":             {"Content-Length: 70000\r\n\r\n", "413"},
			"too long, chunked":    {"Transfer-Encoding: chunked\r\n\r\n" + chunk + chunk + chunk, "413"},
			"too slow":             {"Content-Length: 10\r\n\r\nabc", "408"},
			"truncated":            {"Content-Length: 10\r\n\r\nabc" + halfClose, "400"},
			"truncated in a chunk": {"Transfer-Encoding: chunked\r\n\r\n5\r\nabc" + halfClose, "400"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel() // all have the same outcome, so the order does not matter
				status := rawStatusLine(t, address, "POST /svc HTTP/1.1\r\nHost: x\r\n"+c.request)
				if !strings.Contains(status, " "+c.status+" ") {
					t.Errorf("%s, want %s", status, c.status)
				}
				if o := recorded.next(t); o.Result != events.ResultCancelled || o.Failure != nil {
					t.Errorf("outcome %+v", o)
				}
			})
		}
	})
	if state := server.Breaker("svc").State(); state != events.Closed {
		t.Errorf("client errors opened the breaker: %v", state)
	}
}

// The start of a stream is already sent when the upstream aborts it: the client must be able to tell that it is truncated.
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
		t.Errorf("read %q, %v; want hello and an error", body, err)
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
		t.Error("the idle stream ended without an error")
	}
	if o := recorded.next(t); o.Failure == nil || o.Failure.Type != events.ErrorIdle {
		t.Errorf("outcome %+v %+v", o, o.Failure)
	}
}

// The header section of a stream is a success of its probe, which does not wait for the stream's end.
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
		t.Errorf("state field %q, want half-open", got)
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
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/svc", nil)
	if _, err := http.DefaultClient.Do(r); err == nil {
		t.Fatal("the request was not cancelled")
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

// panicHandler is a log handler that panics when the request path logs a failure.
type panicHandler struct{ slog.Handler }

func (p panicHandler) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "upstream failed" {
		panic("handler is broken")
	}
	return nil
}

func (p panicHandler) Enabled(context.Context, slog.Level) bool { return true }

func (p panicHandler) WithAttrs([]slog.Attr) slog.Handler { return p }

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
		t.Errorf("an error inside the proxy changed the breaker's state to %v", state)
	}
	if _, err := b.Allow(); err != nil {
		t.Errorf("the probe's permit was not returned: %v", err)
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

// Clients that disconnect while their empty responses arrive must neither make other clients' requests fail nor cause failures to be
// recorded for the upstream.
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

// The outcome of a response larger than response_buffer is recorded at its end.
func TestTruncatedLargeResponseIsAFailure(t *testing.T) {
	url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", 300_000))
	})
	server, address, recorded := start(t, routeConfig(url, "breaker: {fail_max: 1}"))
	res, err := http.Get("http://" + address + "/svc")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, res.Body); err == nil {
		t.Errorf("%d bytes and no error", n)
	}
	if o := recorded.next(t); o.Failure == nil || o.Failure.Type != events.ErrorTruncated {
		t.Errorf("%+v %+v", o, o.Failure)
	}
	if server.Breaker("svc").State() != events.Open {
		t.Error("the breaker has not recorded the failure")
	}
}

// A client that does not read its response blocks the upstream's connection until the timeout. That is no failure of the upstream.
func TestSlowReaderRecordsNoFailure(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000000")
		_, _ = io.CopyN(w, zeros{}, 100_000_000)
	}))
	defer upstream.Close()
	server, address, recorded := start(t, routeConfig(upstream.URL, "timeout: 0.5", "breaker: {fail_max: 1}"))
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET /svc HTTP/1.1\r\nHost: x\r\n\r\n") // and the response is not read
	if o := recorded.next(t); o.Result != events.ResultCancelled {
		t.Errorf("%+v %+v", o, o.Failure)
	}
	if server.Breaker("svc").State() != events.Closed {
		t.Error("a slow reader opened the breaker")
	}
}

// zeros is an endless reader.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// An upload that the upstream does not read ends with the timeout, and the client gets a response.
func TestUploadThatIsNotReadTimesOut(t *testing.T) {
	url := rawUpstream(t, func(_ int, c net.Conn, _ *bufio.Reader) {
		limitReadBuffer(t, c)
		<-t.Context().Done() // nothing is read
	})
	_, address, recorded := start(t, routeConfig(url, "timeout: 3"))
	res, err := http.Post("http://"+address+"/svc", "text/plain", bytes.NewReader(make([]byte, 30<<20)))
	if err != nil || res.StatusCode != 504 {
		t.Fatalf("%v, %v", res, err)
	}
	_ = res.Body.Close()
	if o := recorded.next(t); o.Failure == nil || o.Failure.Type != events.ErrorTimeout || o.Duration > 8*time.Second {
		t.Errorf("%+v", o)
	}
}
