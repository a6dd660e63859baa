package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/service"
)

// delivery returns a POST delivery to svc.
func delivery(body string) *service.Delivery {
	return &service.Delivery{Service: "svc", Method: "POST", Host: "client.example", UpstreamPath: "/a", Header: http.Header{}, Body: []byte(body)}
}

// Each delivery reports its outcome to the breaker exactly once. A half-open breaker with one permit shows it: it is closed after a
// success, open after a failure, and has its permit back after anything else.
func TestDeliveryIsReportedOnce(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for name, c := range map[string]struct {
		upstream func(testing.TB) string
		keys     string
		status   int // 0: there is no response
		reason   events.Reason
		kind     events.ErrorType // "" is no failure
		after    events.State
	}{
		"200":       {respondWith("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), "", 200, "", "", events.Closed},
		"204":       {respondWith("HTTP/1.1 204 No Content\r\n\r\n"), "", 204, "", "", events.Closed},
		"302":       {respondWith("HTTP/1.1 302 Found\r\nLocation: http://other.invalid/\r\nContent-Length: 0\r\n\r\n"), "", 302, "", "", events.Closed},
		"404":       {respondWith("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), "", 404, "", "", events.Closed},
		"429":       {respondWith("HTTP/1.1 429 Slow Down\r\nContent-Length: 0\r\n\r\n"), "", 429, "", "", events.Closed},
		"503":       {respondWith("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"), "", 503, "", events.ErrorStatus, events.Open},
		"103 first": {respondWith("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "", 200, "", "", events.Closed},
		// The upstream has received the request, so that it is not sent again, but it has failed.
		"truncated":       {respondWith("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi"), "", 200, "", events.ErrorTruncated, events.Open},
		"truncated chunk": {respondWith("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"), "", 200, "", events.ErrorTruncated, events.Open},
		"101":             {respondWith("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), "", 0, events.ReasonReset, events.ErrorProtocol, events.Open},
		"099":             {respondWith("HTTP/1.1 099 What\r\nContent-Length: 0\r\n\r\n"), "", 0, events.ReasonReset, events.ErrorProtocol, events.Open},
		"malformed":       {respondWith("220 mail.example ESMTP " + long + "\r\n"), "", 0, events.ReasonReset, events.ErrorProtocol, events.Open},
		"malformed field": {respondWith("HTTP/1.1 200 OK\r\n" + long + "\r\n\r\n"), "", 0, events.ReasonReset, events.ErrorProtocol, events.Open},
		"head too large":  {respondWith("HTTP/1.1 200 OK\r\nX: " + strings.Repeat(long, 300) + "\r\n\r\n"), "", 0, events.ReasonReset, events.ErrorProtocol, events.Open},
		"reset":           {respondWith(""), "", 0, events.ReasonReset, events.ErrorReset, events.Open},
		"connect":         {closedPort, "", 0, events.ReasonConnect, events.ErrorConnect, events.Open},
		"timeout": {func(t testing.TB) string {
			return rawUpstream(t, func(_ int, _ net.Conn, r *bufio.Reader) { _, _ = r.WriteTo(io.Discard) })
		}, "timeout: 100ms", 0, events.ReasonTimeout, events.ErrorTimeout, events.Open},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, _, recorded := start(t, routeConfig(c.upstream(t), c.keys, "breaker: {fail_max: 1, half_open_requests: 1, recovery_timeout: 1h}"))
			b := server.Breaker("svc")
			b.Force(events.HalfOpen, 0, "test")
			response, err := server.Deliver(t.Context(), delivery("hello"))
			var failed *service.DeliveryError
			if response.Status != c.status || (err == nil) != (c.status != 0) || err != nil && (!errors.As(err, &failed) || failed.Reason != c.reason) {
				t.Errorf("%+v, %v", response, err)
			}
			s := b.Status()
			if s.State != c.after || s.ProbesInFlight != 0 {
				t.Errorf("breaker %+v", s)
			}
			recorded.mu.Lock()
			defer recorded.mu.Unlock()
			switch f := s.LastFailure; {
			case c.kind == "":
				if f != nil || len(recorded.failures) > 0 {
					t.Errorf("failures %+v, %v", f, recorded.failures)
				}
			case f == nil || f.Type != c.kind || len(recorded.failures) != 1 || !strings.HasPrefix(f.Detail, "delivery: ") || len(f.Detail) > 1100:
				t.Errorf("failures %+v, %v", f, recorded.failures)
			}
			if recorded.open != 0 || len(recorded.outcomes) != 0 {
				t.Errorf("a delivery was counted as a client request: %+v", recorded.outcomes)
			}
		})
	}
}

// A delivery that is cancelled or panics counts neither as success nor as failure, and returns its permit.
func TestAbortedDeliveryRecordsNoOutcome(t *testing.T) {
	arrived := make(chan bool, 1)
	url := rawUpstream(t, func(_ int, _ net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			arrived <- true
			_, _ = r.WriteTo(io.Discard)
		}
	})
	server, _, recorded := start(t, routeConfig(url, "breaker: {fail_max: 1, half_open_requests: 1}"))
	b := server.Breaker("svc")
	b.Force(events.HalfOpen, 0, "test")
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	if _, err := server.Deliver(ctx, delivery("x")); err == nil {
		t.Error("no error")
	}
	if s := b.Status(); s.State != events.HalfOpen || s.ProbesInFlight != 0 || s.LastFailure != nil || len(recorded.failures) > 0 {
		t.Errorf("%+v, %v", s, recorded.failures)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		d := delivery("x")
		d.Header = nil // makes Deliver panic
		_, _ = server.Deliver(t.Context(), d)
	}()
	if s := b.Status(); s.State != events.HalfOpen || s.ProbesInFlight != 0 || s.LastFailure != nil {
		t.Errorf("after a panic: %+v", s)
	}
}

// A delivery is rejected if the breaker gives no permit, or if no route has its service.
func TestDeliveryRequiresBreakerPermission(t *testing.T) {
	arrived := make(chan bool, 100)
	release := make(chan bool)
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived <- true; <-release }))
	defer s.Close()
	server, _, _ := start(t, routeConfig(s.URL, "breaker: {half_open_requests: 1}"))
	b := server.Breaker("svc")
	b.Force(events.Open, 0, "test")
	if _, err := server.Deliver(t.Context(), delivery("x")); !errors.Is(err, breaker.ErrOpen) {
		t.Errorf("open: %v", err)
	}
	b.Force(events.HalfOpen, 0, "test")
	done := make(chan error)
	go func() { _, err := server.Deliver(t.Context(), delivery("x")); done <- err }()
	<-arrived
	if _, err := server.Deliver(t.Context(), delivery("x")); !errors.Is(err, breaker.ErrHalfOpenLimit) {
		t.Errorf("half-open: %v", err)
	}
	close(release)
	if err := <-done; err != nil || len(arrived) != 0 {
		t.Errorf("%v, %d more requests", err, len(arrived))
	}
	d := delivery("x")
	d.Service = "other"
	if _, err := server.Deliver(t.Context(), d); !errors.Is(err, service.ErrNoService) {
		t.Errorf("no such service: %v", err)
	}
}

// A delivery is sent byte for byte as it was queued, apart from Host and Via.
func TestDeliveryIsSentUnchanged(t *testing.T) {
	heads := make(chan string, 10)
	url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			var head strings.Builder
			length := 0
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				head.WriteString(line)
				_, _ = fmt.Sscanf(line, "Content-Length: %d", &length)
				if line == "\r\n" {
					break
				}
			}
			body := make([]byte, length)
			_, _ = io.ReadFull(r, body)
			heads <- head.String() + string(body)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	host := strings.TrimPrefix(url, "http://")
	for name, c := range map[string]struct {
		base, keys string
		change     func(*service.Delivery)
		want       string
	}{
		"plain":         {"", "", func(*service.Delivery) {}, "POST /a HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 5\r\nX-Own: 1\r\n\r\nhello"},
		"preserve_host": {"", "preserve_host: true", func(*service.Delivery) {}, "POST /a HTTP/1.1\r\nHost: client.example\r\nContent-Length: 5\r\nX-Own: 1\r\n\r\nhello"},
		"target": {"/v%31", "", func(d *service.Delivery) { d.UpstreamPath, d.Query = "/a%2Fb//c/.;x=1", "a=%&b;c=+%20" },
			"POST /v%31/a%2Fb//c/.;x=1?a=%&b;c=+%20 HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 5\r\nX-Own: 1\r\n\r\nhello"},
		"no body": {"", "", func(d *service.Delivery) { d.Body = nil }, "POST /a HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 0\r\nX-Own: 1\r\n\r\n"},
		"GET":     {"", "", func(d *service.Delivery) { d.Method, d.Body = "GET", nil }, "GET /a HTTP/1.1\r\nHost: " + host + "\r\nX-Own: 1\r\n\r\n"},
		"user agent": {"", "", func(d *service.Delivery) { d.Header.Set("User-Agent", "me") },
			"POST /a HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: me\r\nContent-Length: 5\r\nX-Own: 1\r\n\r\nhello"},
	} {
		server, _, _ := startInstance(t, "me", routeConfig(url+c.base, c.keys))
		d := delivery("hello")
		d.Header.Set("X-Own", "1")
		c.want = strings.Replace(c.want, "X-Own", "Via: 1.1 me\r\nX-Own", 1)
		c.change(d)
		if _, err := server.Deliver(t.Context(), d); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := <-heads; got != c.want {
			t.Errorf("%s: got %q\nwant %q", name, got, c.want)
		}
	}
}

func TestDeliveryOverHTTP2(t *testing.T) {
	url := h2cUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Proto != "HTTP/2.0" || r.RequestURI != "/a%2Fb?q=%20" || string(body) != "hello" {
			t.Errorf("%s %s %q", r.Proto, r.RequestURI, body)
		}
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(503)
	})
	server, _, _ := start(t, routeConfig(url))
	d := delivery("hello")
	d.UpstreamPath, d.Query = "/a%2Fb", "q=%20"
	response, err := server.Deliver(t.Context(), d)
	if err != nil || response.Status != 503 || response.RetryAfter != 7*time.Second {
		t.Errorf("%+v, %v", response, err)
	}
}

func TestDeliveryReportsRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": 0, "5": 5 * time.Second, "0": 0, "-1": 0, "soon": 0, "1e3": 0, "99999999999999999999": 0, "2000000000": 2_000_000_000 * time.Second,
		"Mon, 02 Jan 2006 15:04:05 GMT": 0,
	} {
		server, _, _ := start(t, routeConfig(respondWith("HTTP/1.1 429 Slow\r\nRetry-After: "+value+"\r\nContent-Length: 0\r\n\r\n")(t)))
		response, err := server.Deliver(t.Context(), delivery("x"))
		if err != nil || response.RetryAfter != want {
			t.Errorf("%q: %+v, %v, want %v", value, response, err, want)
		}
	}
}

// The first delivery in the half-open state uses a connection that was opened after the failure.
func TestDeliveryProbesOnANewConnection(t *testing.T) {
	conns := make(chan bool, 10)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns <- true
		}
	}
	s.Start()
	defer s.Close()
	server, _, _ := start(t, routeConfig(s.URL))
	for i, want := range []int{1, 1, 2, 2} {
		if i == 2 {
			server.Breaker("svc").Force(events.HalfOpen, 0, "test")
		}
		if _, err := server.Deliver(t.Context(), delivery("x")); err != nil || len(conns) != want {
			t.Errorf("%d: %v, %d connections, want %d", i, err, len(conns), want)
		}
	}
}

// An Idempotency-Key makes http.Transport repeat a request on each idle connection that turns out to be closed.
func TestDeliveryIsReplayedAtMostOnce(t *testing.T) {
	const pool = 20
	var dead atomic.Bool
	var received atomic.Int32
	var together sync.WaitGroup // makes the requests concurrent, so that each has its own connection
	together.Add(pool)
	url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			q, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, q.Body)
			if dead.Load() {
				received.Add(1)
				return
			}
			together.Done()
			together.Wait()
			_, _ = io.WriteString(c, okResponse)
		}
	})
	server, _, _ := start(t, routeConfig(url, "breaker: {fail_max: 0}"))
	var deliveries sync.WaitGroup
	for range pool {
		deliveries.Go(func() { _, _ = server.Deliver(t.Context(), delivery("hello")) })
	}
	deliveries.Wait()
	dead.Store(true)
	d := delivery("hello")
	d.Header.Set("Idempotency-Key", "one")
	var failed *service.DeliveryError
	if _, err := server.Deliver(t.Context(), d); !errors.As(err, &failed) || failed.Reason != events.ReasonReset {
		t.Errorf("%v", err)
	}
	if n := received.Load(); n != 2 {
		t.Errorf("one delivery reached the upstream %d times, want 2", n)
	}
}

// A delivery does not wait for the end of an endless response, which would block the deliveries behind it until the timeout.
func TestDeliveryDoesNotWaitForTheEndOfItsResponse(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	defer s.Close()
	server, _, recorded := start(t, routeConfig(s.URL, "timeout: 1h", "breaker: {fail_max: 1}"))
	response, err := server.Deliver(t.Context(), delivery("x"))
	if err != nil || response.Status != 200 || server.Breaker("svc").State() != events.Closed || len(recorded.failures) > 0 {
		t.Errorf("%+v, %v, failures %v", response, err, recorded.failures)
	}
}

// HTTP/2 cannot represent some requests that HTTP/1.1 clients send. They can never be delivered.
func TestDeliveryThatHTTP2CannotSend(t *testing.T) {
	server, _, _ := start(t, routeConfig(h2cUpstream(t, func(http.ResponseWriter, *http.Request) {})))
	for field, want := range map[string]bool{"Upgrade": true, "X-Fine": false} {
		d := delivery("hello")
		d.Header.Set(field, "value")
		_, err := server.Deliver(t.Context(), d)
		var failed *service.DeliveryError
		if got := errors.As(err, &failed) && !failed.NotCausedByRequest; got != want {
			t.Errorf("%s: %+v", field, err)
		}
	}
	d := delivery("hello")
	d.Header["X-Bad"] = []string{"a\x00b"}
	_, err := server.Deliver(t.Context(), d)
	var failed *service.DeliveryError
	if !errors.As(err, &failed) || !failed.Unsendable || failed.NotCausedByRequest {
		t.Errorf("%+v", err)
	}
}
