package http1_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"cbproxy/internal/http1"
)

func TestTransportReusesConnection(t *testing.T) {
	u := startUpstream(t, serveOK)
	transport := transportTo(t, u)
	for range 10 {
		if status, body, err := result(transport.RoundTrip(u.request(t, "GET", nil))); status != 200 || body != "ok" || err != nil {
			t.Fatal(status, body, err)
		}
	}
	if n := u.conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	transport.CloseIdleConnections()
	_, _, _ = result(transport.RoundTrip(u.request(t, "GET", nil)))
	if n := u.conns.Load(); n != 2 {
		t.Errorf("%d connections after the idle ones were closed", n)
	}
}

// net/http parses the request that was sent.
func TestTransportSendsRequest(t *testing.T) {
	got := make(chan *http.Request, 1)
	u := startUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			q, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			text, _ := io.ReadAll(q.Body)
			q.Body = io.NopCloser(strings.NewReader(string(text)))
			got <- q
			_, _ = io.WriteString(c, ok)
		}
	})
	transport := transportTo(t, u)
	for name, c := range map[string]struct {
		method, body, host string
		header             http.Header
		length             string
		agent              string
	}{
		"plain":               {method: "GET", agent: "[]"},
		"a body":              {method: "PUT", body: "hello", length: "5", agent: "[]"},
		"POST without a body": {method: "POST", length: "0", agent: "[]"},
		"fields":              {method: "DELETE", header: http.Header{"A": {"b", " c\t"}, "Content-Length": {"77"}, "Transfer-Encoding": {"chunked"}, "User-Agent": {"me", "too"}}, agent: "[me]"},
		"no agent":            {method: "GET", header: http.Header{"User-Agent": {""}}, agent: "[]"},
		"another host":        {method: "GET", host: "example.com:81", agent: "[]"},
		"a host with a zone":  {method: "GET", host: "[fe80::1%25en0]:81", agent: "[]"},
		"an invalid host":     {method: "GET", host: "a b", agent: "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			r := u.request(t, c.method, nil)
			if c.body != "" {
				r = u.request(t, c.method, strings.NewReader(c.body))
			}
			for name, values := range c.header {
				r.Header[name] = values
			}
			r.Host = c.host
			if status, _, err := result(transport.RoundTrip(r)); status != 200 {
				t.Fatal(status, err)
			}
			q := <-got
			body, _ := io.ReadAll(q.Body)
			host := map[string]string{"": u.address, "[fe80::1%25en0]:81": "[fe80::1]:81", "a b": ""}
			want, ok := host[c.host]
			if !ok {
				want = c.host
			}
			if q.Method != c.method || q.RequestURI != "/path?query" || q.Host != want || string(body) != c.body ||
				strings.Join(q.Header["Content-Length"], ",") != c.length || len(q.TransferEncoding) > 0 {
				t.Errorf("%s %s %q %q %v %v", q.Method, q.RequestURI, q.Host, body, q.Header, q.TransferEncoding)
			}
			if strings.Join(q.Header["User-Agent"], ",") != strings.Trim(c.agent, "[]") || len(q.Header["A"]) != len(c.header["A"]) {
				t.Errorf("%v", q.Header)
			}
		})
	}
}

// A request that the upstream could parse differently is not sent.
func TestTransportRejectsInvalidRequest(t *testing.T) {
	u := startUpstream(t, serveOK)
	transport := transportTo(t, u)
	for name, spoil := range map[string]func(*http.Request){
		"a line end in a value":    func(r *http.Request) { r.Header["A"] = []string{"b\r\nC: d"} },
		"a line end in a name":     func(r *http.Request) { r.Header["A: b\r\nC"] = []string{"d"} },
		"a space in a name":        func(r *http.Request) { r.Header["A "] = []string{"d"} },
		"a line end in the target": func(r *http.Request) { r.URL.Opaque = "/ HTTP/1.1\r\n" },
		"a space in the target":    func(r *http.Request) { r.URL.Opaque = "/a b" },
		"a line end in the method": func(r *http.Request) { r.Method = "GET / HTTP/1.1\r\nA: b\r\n\r\nGET" },
	} {
		t.Run(name, func(t *testing.T) {
			r := u.request(t, "GET", nil)
			spoil(r)
			if status, _, err := result(transport.RoundTrip(r)); err == nil {
				t.Errorf("status %d", status)
			}
		})
	}
	if n := u.conns.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

func TestCanSend(t *testing.T) {
	u := &upstream{address: "localhost:1"}
	for name, c := range map[string]struct {
		method string
		body   io.Reader
		change func(*http.Request)
		want   bool
	}{
		"plain":          {"GET", nil, nil, true},
		"short body":     {"POST", strings.NewReader("a"), nil, true},
		"longest body":   {"POST", strings.NewReader(strings.Repeat("a", http1.MaxBody)), nil, true},
		"longer body":    {"POST", strings.NewReader(strings.Repeat("a", http1.MaxBody+1)), nil, false},
		"unknown length": {"POST", io.MultiReader(), nil, false},
		"trailers":       {"POST", strings.NewReader("a"), func(r *http.Request) { r.Trailer = http.Header{"A": nil} }, false},
		"upgrade":        {"GET", nil, func(r *http.Request) { r.Header.Set("Upgrade", "websocket") }, false},
		"expectation":    {"POST", strings.NewReader("a"), func(r *http.Request) { r.Header.Set("Expect", "100-continue") }, false},
		"CONNECT":        {"CONNECT", nil, nil, false},
		"to be closed":   {"GET", nil, func(r *http.Request) { r.Close = true }, false},
	} {
		r := u.request(t, c.method, c.body)
		if c.change != nil {
			c.change(r)
		}
		if http1.CanSend(r) != c.want {
			t.Errorf("%s: %v", name, !c.want)
		}
	}
}

// An idle connection that the upstream has closed, or on which it has sent data, is not used: the next request reaches the
// upstream exactly once, whatever its method.
func TestTransportChecksIdleConnection(t *testing.T) {
	for name, spoil := range map[string]func(net.Conn){
		"closed":  func(c net.Conn) { _ = c.Close() },
		"half":    func(c net.Conn) { _ = c.(*net.TCPConn).CloseWrite() },
		"reset":   func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0); _ = c.Close() },
		"garbage": func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil") },
	} {
		t.Run(name, func(t *testing.T) {
			first := make(chan net.Conn, 1)
			u := startUpstream(t, func(n int, c net.Conn, r *bufio.Reader) {
				if n == 0 {
					first <- c
				}
				serveOK(n, c, r)
			})
			transport := transportTo(t, u)
			if _, _, err := result(transport.RoundTrip(u.request(t, "GET", nil))); err != nil {
				t.Fatal(err)
			}
			spoil(<-first)
			status, body, err := 0, "", error(nil)
			for range 50 { // the kernel may need a moment
				status, body, err = result(transport.RoundTrip(u.request(t, "POST", strings.NewReader("hello"))))
				if u.conns.Load() > 1 || err != nil {
					break
				}
			}
			if status != 200 || body != "ok" || err != nil || u.conns.Load() != 2 {
				t.Errorf("%d %q %v, %d connections", status, body, err, u.conns.Load())
			}
		})
	}
}

// If the upstream closes an idle connection at the moment when it is reused, a request that may be repeated is sent once
// more, on a new connection.
func TestTransportRetriesOnceIfAllowed(t *testing.T) {
	for name, c := range map[string]struct {
		method  string
		header  string
		retried bool
	}{
		"GET":     {"GET", "", true},
		"OPTIONS": {"OPTIONS", "", true},
		"DELETE":  {"DELETE", "", false},
		"POST":    {"POST", "", false},
		"a key":   {"POST", "Idempotency-Key", true},
	} {
		t.Run(name, func(t *testing.T) {
			requests := make(chan int, 10)
			u := startUpstream(t, func(n int, c net.Conn, r *bufio.Reader) {
				for i := 0; readRequest(r); i++ {
					requests <- n
					if n < 2 && i > 0 {
						return // without a response
					}
					_, _ = io.WriteString(c, ok)
				}
			})
			transport := transportTo(t, u)
			busy, err := transport.RoundTrip(u.request(t, "GET", nil)) // two connections become idle
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := result(transport.RoundTrip(u.request(t, "GET", nil))); err != nil {
				t.Fatal(err)
			}
			_, _, _ = result(busy, nil)
			r := u.request(t, c.method, nil)
			if c.header != "" {
				r.Header.Set(c.header, "a")
			}
			status, _, err := result(transport.RoundTrip(r))
			if (status == 200) != c.retried || (err == nil) != c.retried || err != nil && !errors.Is(err, io.EOF) {
				t.Errorf("status %d, %v", status, err)
			}
			if n := len(requests); n != 3 && !c.retried || n != 4 && c.retried {
				t.Errorf("the upstream got %d requests", n)
			}
		})
	}
}

// If a new connection is closed without a response, the request fails and is not sent again.
func TestTransportDoesNotRetryOnNewConnection(t *testing.T) {
	u := startUpstream(t, func(_ int, _ net.Conn, r *bufio.Reader) { readRequest(r) })
	if _, _, err := result(transportTo(t, u).RoundTrip(u.request(t, "GET", nil))); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if n := u.conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// The end of the context ends a request in every phase, with the cause of the context, and closes the connection.
func TestContextEndEndsRequest(t *testing.T) {
	cause := errors.New("cancelled by the test")
	for name, response := range map[string]string{
		"before the response": "",
		"in its line":         "HTTP/1.1 2",
		"in its fields":       "HTTP/1.1 200 OK\r\nA: b\r\n",
		"after an interim":    "HTTP/1.1 103 Early Hints\r\n\r\n",
		"before the body":     "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
		"in the body":         "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
		"in a chunk":          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
		"before trailers":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b",
		"in an endless body":  "HTTP/1.1 200 OK\r\n\r\nab",
	} {
		t.Run(name, func(t *testing.T) {
			closed, sent := make(chan struct{}), make(chan struct{})
			u := startUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
				readRequest(r)
				_, _ = io.WriteString(c, response)
				close(sent)
				_, _ = io.Copy(io.Discard, r)
				close(closed)
			})
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() {
				<-sent
				cancel(cause)
			}()
			if _, _, err := result(transportTo(t, u).RoundTrip(u.request(t, "GET", nil).WithContext(ctx))); err != cause {
				t.Error(err)
			}
			<-closed
		})
	}
	t.Run("before it begins", func(t *testing.T) {
		u := startUpstream(t, serveOK)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if _, _, err := result(transportTo(t, u).RoundTrip(u.request(t, "GET", nil).WithContext(ctx))); err != cause {
			t.Error(err)
		}
	})
	t.Run("in GotConn", func(t *testing.T) {
		u := startUpstream(t, func(_ int, _ net.Conn, r *bufio.Reader) {
			if readRequest(r) {
				t.Error("the upstream has got a request")
			}
		})
		ctx, cancel := context.WithCancelCause(t.Context())
		ctx = context.WithValue(ctx, http1.HooksKey{}, hooks{gotConn: func() { cancel(cause) }})
		if _, _, err := result(transportTo(t, u).RoundTrip(u.request(t, "GET", nil).WithContext(ctx))); err != cause {
			t.Error(err)
		}
	})
}

// A context that ends at the same moment as its request does not affect the next request on the connection.
func TestLateCancelDoesNotAffectNextRequest(t *testing.T) {
	u := startUpstream(t, serveOK)
	transport := transportTo(t, u)
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			for range 500 {
				ctx, cancel := context.WithCancel(t.Context())
				canceled := make(chan struct{})
				go func() {
					cancel()
					close(canceled)
				}()
				if _, _, err := result(transport.RoundTrip(u.request(t, "GET", nil).WithContext(ctx))); err != nil && err != context.Canceled {
					t.Error(err)
				}
				<-canceled
				if status, body, err := result(transport.RoundTrip(u.request(t, "GET", nil))); status != 200 || body != "ok" || err != nil {
					t.Error(status, body, err)
				}
			}
		})
	}
	running.Wait()
}

// A response is returned even if the upstream closes the connection without having read the body.
func TestTransportReturnsEarlyResponse(t *testing.T) {
	u := startUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		_, _ = io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
	})
	transport := transportTo(t, u)
	for range 50 {
		status, body, err := result(transport.RoundTrip(u.request(t, "POST", strings.NewReader(strings.Repeat("x", 1000)))))
		if status != 413 || body != "no" || err != nil {
			t.Fatal(status, body, err)
		}
	}
}

func TestClosingUnreadBodyClosesConnection(t *testing.T) {
	closed := make(chan struct{})
	u := startUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		readRequest(r)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
		_, _ = io.Copy(io.Discard, r)
		close(closed)
	})
	res, err := transportTo(t, u).RoundTrip(u.request(t, "GET", nil))
	if err != nil {
		t.Fatal(err)
	}
	reading := make(chan error)
	go func() {
		_, err := io.ReadAll(res.Body)
		reading <- err
	}()
	_ = res.Body.Close()
	if err := <-reading; err == nil {
		t.Error("a read of a closed body succeeded")
	}
	<-closed
	if _, err := res.Body.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Error(err)
	}
}

func TestIdleConnectionsAreLimited(t *testing.T) {
	closed := make(chan int, 10)
	u := startUpstream(t, func(n int, c net.Conn, r *bufio.Reader) {
		serveOK(n, c, r)
		closed <- n
	})
	transport := http1.NewTransport(http1.TransportConfig{
		Dial:    func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", u.address) },
		MaxIdle: 2, IdleTimeout: time.Second, MaxHeaderBytes: headerLimit,
	})
	var open []*http.Response
	for range 3 {
		res, err := transport.RoundTrip(u.request(t, "GET", nil))
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, res)
	}
	for _, res := range open {
		_, _, _ = result(res, nil)
	}
	if n := <-closed; n != 2 {
		t.Errorf("connection %d was closed", n)
	}
	<-closed // closed after IdleTimeout
	<-closed
}

// RoundTrip allocates little more than the request context and the response.
func TestRoundTripAllocatesLittle(t *testing.T) {
	u := startUpstream(t, serveOK)
	transport := transportTo(t, u)
	r := u.request(t, "GET", nil)
	buffer := make([]byte, 100)
	n := testing.AllocsPerRun(200, func() {
		res, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = res.Body.Read(buffer)
		}
	})
	if n > 40 {
		t.Errorf("%v allocations a request", n)
	}
	t.Log(n)
}
