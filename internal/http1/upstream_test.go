package http1_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/http1"
)

// upstream is a server whose handler works on the raw connections.
type upstream struct {
	address string
	conns   atomic.Int64
}

// startUpstream starts a server that calls handle for each connection, with its number.
func startUpstream(t testing.TB, handle func(n int, c net.Conn, r *bufio.Reader)) *upstream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{address: l.Addr().String()}
	var serving sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	serving.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			u.conns.Add(1)
			mu.Lock()
			open[c] = true
			mu.Unlock()
			serving.Go(func() {
				handle(n, c, bufio.NewReader(c))
				_ = c.Close()
				mu.Lock()
				delete(open, c)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		serving.Wait()
	})
	return u
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// serveOK answers every request with ok.
func serveOK(_ int, c net.Conn, r *bufio.Reader) {
	for readRequest(r) {
		_, _ = io.WriteString(c, ok)
	}
}

// readRequest reads a request and its body. It reports false at the end of the connection.
func readRequest(r *bufio.Reader) bool {
	q, err := http.ReadRequest(r)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, q.Body)
	return err == nil
}

const headerLimit = 8 << 10

// transportTo returns a Transport to u.
func transportTo(t testing.TB, u *upstream) *http1.Transport {
	transport := http1.NewTransport(http1.TransportConfig{
		Dial: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", u.address)
		},
		MaxIdle: 10, IdleTimeout: time.Minute, MaxHeaderBytes: headerLimit,
	})
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// request returns a request to u.
func (u *upstream) request(t testing.TB, method string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+u.address+"/path?query", body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// result reads the response of a RoundTrip.
func result(res *http.Response, err error) (status int, body string, _ error) {
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}

// hooks implements http1.Hooks with optional functions.
type hooks struct {
	gotConn func()
	got1xx  func(int, textproto.MIMEHeader) error
}

func (h hooks) GotFirstResponseByte() {}

func (h hooks) GotConn(net.Conn) {
	if h.gotConn != nil {
		h.gotConn()
	}
}

func (h hooks) Got1xxResponse(code int, header textproto.MIMEHeader) error {
	if h.got1xx != nil {
		return h.got1xx(code, header)
	}
	return nil
}
