package http1_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/http1"
)

const (
	simple      = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
	testTimeout = 20 * time.Second // limits waits; longer than any takes on a busy machine
)

// onlyOnLinux skips a test on systems where a Server hands off all connections.
func onlyOnLinux(t testing.TB) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("a Server serves connections on Linux only")
	}
}

// serve starts a server with the handler h and returns it with its address.
func serve(t testing.TB, h http.HandlerFunc, c http1.ServerConfig) (*http1.Server, string) {
	t.Helper()
	onlyOnLinux(t)
	c.Handler = h
	if c.HandOff == nil {
		c.HandOff = func(c net.Conn, unread []byte) {
			t.Errorf("%q is not plain", unread)
			_ = c.Close()
		}
	}
	s := http1.NewServer(c)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.ServeConn(c)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-accepting
		s.Close()
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s, l.Addr().String()
}

func dial(t testing.TB, address string) (*net.TCPConn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(testTimeout))
	return c.(*net.TCPConn), bufio.NewReader(c)
}

// wholeResponse reads a response with its body.
func wholeResponse(t testing.TB, r *bufio.Reader) (*http.Response, string) {
	t.Helper()
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func send(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func hello(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }

func TestServerServesRequestsOnOneConnection(t *testing.T) {
	_, address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || http1.BodyReceived(r.Body) != (len(body) > 0) {
			t.Errorf("%v, received %v", err, http1.BodyReceived(r.Body))
		}
		fmt.Fprintf(w, "%s %s %s %s %s %s", r.Method, r.URL, r.Host, r.RemoteAddr, r.Header.Get("X-A"), body)
	}, http1.ServerConfig{})
	c, r := dial(t, address)
	for i := range 3 {
		send(t, c, fmt.Sprintf("POST /%d?q HTTP/1.1\r\nHost: h\r\nx-a: v\r\nContent-Length: 4\r\n\r\nbody", i))
		want := fmt.Sprintf("POST /%d?q h %s v body", i, c.LocalAddr())
		if res, got := wholeResponse(t, r); got != want || res.StatusCode != 200 {
			t.Errorf("%d %q, want %q", res.StatusCode, got, want)
		}
	}
}

// The connection of a request that is not plain is handed off with all bytes of the request.
func TestConnectionIsHandedOffWithUnreadBytes(t *testing.T) {
	for _, text := range []string{
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"GET / HTTP/1.1\r\nHo",
		simple + simple,
		"GET /" + strings.Repeat("a", 20<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		type handOffCall struct {
			c      net.Conn
			unread []byte
		}
		handedOff := make(chan handOffCall, 1)
		_, address := serve(t, hello, http1.ServerConfig{
			IdleTimeout: testTimeout,
			HandOff:     func(c net.Conn, unread []byte) { handedOff <- handOffCall{c, unread} },
		})
		for before := range 2 {
			c, r := dial(t, address)
			for range before {
				send(t, c, simple)
				wholeResponse(t, r)
			}
			send(t, c, text)
			_ = c.CloseWrite()
			got := <-handedOff
			more, err := io.ReadAll(got.c)
			if all := string(got.unread) + string(more); all != text || err != nil {
				t.Errorf("handed off %.100q of %.100q; %v", all, text, err)
			}
			_ = got.c.Close()
		}
	}
}

// A body may arrive in pieces within bodyTimeout. On a busy machine the pieces may take longer, and the connection is handed off:
// then the request is sent again on a new connection.
func TestServerReadsBodyInPieces(t *testing.T) {
	const head, length = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n", 10000
	body := strings.Repeat("0123456789", length/10)
	_, address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		fmt.Fprint(w, err == nil && string(got) == body)
	}, http1.ServerConfig{IdleTimeout: testTimeout, HandOff: func(c net.Conn, _ []byte) { _ = c.Close() }})
	request := func(pieces []string) (response string, err error) {
		c, r := dial(t, address)
		defer c.Close()
		for _, piece := range pieces {
			if _, err := io.WriteString(c, piece); err != nil {
				return "", err
			}
			<-time.After(time.Millisecond)
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return "", err
		}
		text, err := io.ReadAll(res.Body)
		return string(text), err
	}
	for _, pieces := range [][]string{{head + body}, {head, body}, {head + body[:1], body[1:5000], body[5000:]}} {
		got, err := request(pieces)
		for n := 1; err != nil && n < 100; n++ {
			got, err = request(pieces)
		}
		if got != "true" {
			t.Errorf("%d pieces: %s, %v", len(pieces), got, err)
		}
	}
}

// A connection is handed off before the rest of its body is read if the body does not arrive within bodyTimeout.
func TestServerHandsOffSlowBody(t *testing.T) {
	const head, length = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n", 10000
	body := strings.Repeat("0123456789", length/10)
	handedOff := make(chan string, 1)
	_, address := serve(t, hello, http1.ServerConfig{IdleTimeout: testTimeout, HandOff: func(c net.Conn, unread []byte) {
		rest, err := io.ReadAll(c)
		handedOff <- fmt.Sprint(string(unread)+string(rest), err)
		_ = c.Close()
	}})
	for _, sent := range []string{head, head + body[:9999]} { // an incomplete body
		c, _ := dial(t, address)
		send(t, c, sent)
		_ = c.CloseWrite()
		if got := <-handedOff; got != sent+"<nil>" {
			t.Errorf("handed off %.100q of %.100q", got, sent)
		}
	}
	c, _ := dial(t, address)
	send(t, c, head)
	for i := range 20 { // each piece is fast enough, but not the whole body
		<-time.After(10 * time.Millisecond)
		send(t, c, body[i:i+1])
	}
	_ = c.CloseWrite()
	if got := <-handedOff; got != head+body[:20]+"<nil>" {
		t.Errorf("handed off %.100q", got)
	}
}

// A request that arrives while another one is being served is served afterwards.
func TestServerServesPipelinedRequestAfterCurrent(t *testing.T) {
	begun, more := make(chan struct{}), make(chan struct{})
	handedOff := make(chan net.Conn, 1)
	_, address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		<-more
		hello(w, r)
	}, http1.ServerConfig{HandOff: func(c net.Conn, unread []byte) { handedOff <- c }})
	c, r := dial(t, address)
	send(t, c, simple)
	<-begun
	send(t, c, simple)
	more <- struct{}{}
	wholeResponse(t, r)
	<-begun
	more <- struct{}{}
	if _, body := wholeResponse(t, r); body != "hello" {
		t.Error(body)
	}
}

func TestRequestContextEndsWithRequest(t *testing.T) {
	contexts := make(chan context.Context, 1)
	type key struct{}
	_, address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		contexts <- r.Context()
		hello(w, r)
	}, http1.ServerConfig{ConnContext: func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, key{}, c.RemoteAddr().String())
	}})
	c, r := dial(t, address)
	send(t, c, simple)
	ctx := <-contexts
	wholeResponse(t, r)
	<-ctx.Done()
	if got := ctx.Value(key{}); got != c.LocalAddr().String() {
		t.Error(got)
	}
}

func TestServerClosesIdleConnections(t *testing.T) {
	const short = 50 * time.Millisecond
	for _, limits := range []http1.ServerConfig{
		{FirstRequestTimeout: short, IdleTimeout: time.Hour},
		{FirstRequestTimeout: time.Hour, IdleTimeout: short},
	} {
		_, address := serve(t, hello, limits)
		c, r := dial(t, address)
		if limits.IdleTimeout == short {
			for range 3 {
				send(t, c, simple)
				wholeResponse(t, r)
			}
		}
		began := time.Now()
		if _, err := r.ReadByte(); err != io.EOF {
			t.Fatal(err)
		}
		if took := time.Since(began); took < short/2 {
			t.Errorf("closed after %v", took)
		}
	}
}

// A client that does not read for a while still gets all responses: long ones, which are sent during Write, and short
// ones, which are sent after the handler has returned.
func TestSlowReaderGetsAllResponses(t *testing.T) {
	for _, length := range []int{30 << 10, 200 << 10} {
		requests := 20 << 20 / length // more than the buffers of two sockets
		begun := make(chan struct{})
		_, address := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			begun <- struct{}{}
			w.Header().Set("Content-Length", strconv.Itoa(length))
			if _, err := io.WriteString(w, strings.Repeat("x", length)); err != nil {
				t.Error(err)
			}
		}, http1.ServerConfig{})
		c, r := dial(t, address)
		_ = c.SetDeadline(time.Now().Add(3 * testTimeout)) // takes long on a busy machine
		blocked, stuck := make(chan struct{}), false
		go func() {
			for i := range requests {
				send(t, c, simple)
				select {
				case <-begun:
				case <-time.After(100 * time.Millisecond):
					if !stuck {
						stuck = true
						close(blocked)
					}
					<-begun
				}
				if i == requests-1 && !stuck {
					t.Error("the connection was never full")
					close(blocked)
				}
			}
		}()
		<-blocked
		for range requests {
			if _, body := wholeResponse(t, r); len(body) != length {
				t.Fatalf("%d bytes", len(body))
			}
		}
	}
}

// A client may send an empty line after the body of a request (RFC 9112, section 2.2).
func TestServerSkipsEmptyLinesBetweenRequests(t *testing.T) {
	const post = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok"
	for name, pieces := range map[string][]string{
		"with the next request":        {post, "\r\n" + simple},
		"with the body":                {post + "\r\n", simple},
		"on its own":                   {post, "\r\n", simple},
		"byte by byte":                 {post, "\r", "\n", simple},
		"two of them":                  {post, "\r\n", "\r\n" + simple},
		"a bare line feed":             {post, "\n" + simple},
		"after a request without body": {simple, "\r\n" + simple},
		"a request as long as a read":  {"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 16300\r\n\r\n" + strings.Repeat("x", 16300) + "\r\n", simple},
	} {
		t.Run(name, func(t *testing.T) {
			_, address := serve(t, hello, http1.ServerConfig{})
			c, r := dial(t, address)
			for i := range 3 { // on one connection
				for _, piece := range pieces {
					send(t, c, piece)
					if strings.Trim(piece, "\r\n") == "" {
						continue
					}
					if res, body := wholeResponse(t, r); res.StatusCode != 200 || body != "hello" {
						t.Fatalf("round %d: status %d, %q", i, res.StatusCode, body)
					}
				}
			}
		})
	}
}

// Empty lines at other positions, and too many of them, make a request not plain.
func TestOtherEmptyLinesAreHandedOff(t *testing.T) {
	for name, c := range map[string]struct{ before, unread string }{
		"before the first request":  {"", "\r\n" + simple},
		"too many":                  {simple, "\r\n\r\n\r\n" + simple},
		"a space":                   {simple, " \r\n" + simple},
		"after a pipelined request": {"", simple + "\r\n" + simple},
	} {
		t.Run(name, func(t *testing.T) {
			handedOff := make(chan string, 1)
			_, address := serve(t, hello, http1.ServerConfig{HandOff: func(c net.Conn, unread []byte) { handedOff <- string(unread); _ = c.Close() }})
			conn, r := dial(t, address)
			if c.before != "" {
				send(t, conn, c.before)
				wholeResponse(t, r)
			}
			send(t, conn, c.unread)
			if got := <-handedOff; !strings.HasSuffix(c.unread, got) || !strings.HasSuffix(got, simple) {
				t.Errorf("handed off %q of %q", got, c.unread)
			}
		})
	}
}
