package fallbacks_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/fallbacks/fallbacktest"
	_ "cbproxy/fallbacks/standard"
	"cbproxy/internal/events"
	"cbproxy/routes"
)

// lines is a log whose lines can be awaited.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	select {
	case l <- string(p):
	default: // nobody reads them
	}
	return len(p), nil
}

// await returns the next line with all of parts.
func (l lines) await(t *testing.T, parts ...string) string {
	t.Helper()
	late := time.After(10 * time.Second)
next:
	for {
		select {
		case line := <-l:
			for _, part := range parts {
				if !strings.Contains(line, part) {
					continue next
				}
			}
			return line
		case <-late:
			t.Fatalf("no line with %q", parts)
		}
	}
}

// place is where strategies with servers are tried.
type place struct {
	log        lines
	transports atomic.Int64 // made so far
	panics     atomic.Bool  // every request makes the transport panic
}

func newPlace() *place { return &place{log: make(lines, 100)} }

func (p *place) site() fallbacks.Env {
	return fallbacks.Env{Service: "svc", Logger: slog.New(slog.NewTextHandler(p.log, nil)), Transport: p.transport}
}

// transport makes one as the proxy does, as far as strategies can tell.
func (p *place) transport(u routes.Upstream, keys routes.TLS) (*http.Transport, error) {
	p.transports.Add(1)
	t := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true, MaxIdleConnsPerHost: 10}
	t.Proxy = func(*http.Request) (*url.URL, error) { // the one hook on the request's own goroutine
		if p.panics.Load() {
			panic("broken transport")
		}
		return nil, nil
	}
	t.Protocols.SetHTTP1(u.Scheme != "h2c")
	t.Protocols.SetUnencryptedHTTP2(u.Scheme == "h2c")
	if keys.CAFile != "" {
		authorities, err := routes.LoadAuthorities(keys.CAFile)
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig = &tls.Config{RootCAs: authorities, ServerName: keys.ServerName}
	}
	return t, nil
}

// build returns a chain of one strategy that is not started.
func (p *place) build(t testing.TB, name string, options any, before *fallbacks.Chain) *fallbacks.Chain {
	t.Helper()
	c, err := fallbacks.NewChain([]string{name}, map[string]any{name: options}, p.site(), before)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// start returns a chain of one strategy for the length of the test.
func (p *place) start(t testing.TB, name string, options any) *fallbacks.Chain {
	t.Helper()
	c := p.build(t, name, options, nil)
	c.Start()
	t.Cleanup(c.Close)
	return c
}

func urlOf(t testing.TB, text string) routes.Upstream {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return routes.Upstream{URL: u}
}

// get is a client's request for /x.
func get() *fallbacktest.Client {
	return &fallbacktest.Client{Req: fallbacks.Request{Service: "svc", Method: "GET", Host: "client.example", Path: "/svc/x", Rest: "/x", Header: http.Header{}}}
}

// answer asks the chain as a client that stays.
func answer(t *testing.T, c *fallbacks.Chain, r *fallbacktest.Client) (*fallbacks.Answer, error) {
	t.Helper()
	a, _, err := c.Answer(t.Context(), r, events.ReasonOpen)
	return a, err
}

// rawServer answers each connection's first request with text as it is, and then does with the
// connection what end says.
type rawServer struct {
	url   string
	heads chan string // request lines and fields, in order
	asked atomic.Int64
}

type ending int

const (
	closes ending = iota
	hangs         // until the test is over
)

func serveRaw(t testing.TB, text string, end ending) *rawServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &rawServer{url: "http://" + l.Addr().String(), heads: make(chan string, 100)}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(ctx, c, text, end)
		}
	}()
	return s
}

func (s *rawServer) serve(ctx context.Context, c net.Conn, text string, end ending) {
	defer func() { _ = c.Close() }()
	var head strings.Builder
	r := bufio.NewReader(c)
	length := 0
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		head.WriteString(line)
		if _, value, ok := strings.Cut(line, "Content-Length: "); ok {
			for _, d := range strings.TrimSpace(value) {
				length = length*10 + int(d-'0')
			}
		}
		if line == "\r\n" {
			break
		}
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return
	}
	s.asked.Add(1)
	s.heads <- head.String() + string(body)
	_, _ = io.WriteString(c, text)
	if end == hangs {
		<-ctx.Done()
	}
}

// h2cServer is a server of HTTP/2 without TLS.
func h2cServer(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return "h2c" + strings.TrimPrefix(s.URL, "http")
}

// countedServer tells of its connections.
type countedServer struct {
	url     string
	opened  atomic.Int64
	closed  chan struct{} // has a token for each connection that is closed
	asked   atomic.Int64
	failing atomic.Bool // answers with 503
}

func serveCounted(t testing.TB, h http.HandlerFunc) *countedServer {
	t.Helper()
	c := &countedServer{closed: make(chan struct{}, 100)}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.asked.Add(1)
		if c.failing.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		h(w, r)
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			c.opened.Add(1)
		case http.StateClosed:
			c.closed <- struct{}{}
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	c.url = s.URL
	return c
}

func await(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s did not happen", what)
	}
}

// stacks returns the stacks of all goroutines.
func stacks() string {
	var b strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&b, 2)
	return b.String()
}
