package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cbproxy/fallbacks"
	_ "cbproxy/fallbacks/standard"
	"cbproxy/internal/events"
	"cbproxy/internal/httpserver"
	"cbproxy/proxy"
	"cbproxy/routes"
)

// recorder observes all services of a server.
type recorder struct {
	mu       sync.Mutex
	outcomes []events.Outcome
	failures []events.ErrorType
	probes   []bool
	local    []events.LocalError
	open     int
	ended    chan struct{} // one token an outcome
}

func newRecorder() *recorder { return &recorder{ended: make(chan struct{}, 10000)} }

func (r *recorder) Service(string) events.Observer { return r }
func (r *recorder) Forget(string)                  {}

func (r *recorder) Failed(kind events.ErrorType, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, slices.Repeat([]events.ErrorType{kind}, n)...)
}

func (r *recorder) FailedLocally(kind events.LocalError) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.local = append(r.local, kind)
}

func (r *recorder) Probed(ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.probes = append(r.probes, ok)
}

func (r *recorder) Begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open++
}

func (r *recorder) End(o *events.Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open--
	r.outcomes = append(r.outcomes, *o)
	select {
	case r.ended <- struct{}{}:
	default: // no test waits for so many, and the request must not
	}
}

// next waits for one more request to end and returns how the last one did.
func (r *recorder) next(t *testing.T) events.Outcome {
	t.Helper()
	select {
	case <-r.ended:
	case <-time.After(20 * time.Second):
		t.Fatal("no request ended within 20s")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.outcomes[len(r.outcomes)-1]
}

// parse returns the configuration in a YAML text.
func parse(t testing.TB, text string) *routes.Config {
	t.Helper()
	c, err := routes.Loader{Path: "test.yaml", Builtin: fallbacks.Builtin(), Strategies: fallbacks.Options()}.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, "transport:") {
		for _, r := range c.Routes {
			r.Transport = httpMode
		}
	}
	return c
}

// start serves a configuration over a real listener.
func start(t testing.TB, text string) (server *proxy.Server, address string, recorded *recorder) {
	return startWithLogger(t, text, slog.New(slog.DiscardHandler))
}

func startWithLogger(t testing.TB, text string, logger *slog.Logger) (*proxy.Server, string, *recorder) {
	t.Helper()
	recorded := newRecorder()
	server := proxy.New(proxy.Config{Bus: new(events.Bus), Observers: recorded, Logger: logger})
	c := parse(t, text)
	if err := server.Apply(c); err != nil {
		t.Fatal(err)
	}
	listener, err := httpserver.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.Server = httpMode
	s := proxy.NewHTTPServer(server, c, logger)
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(listener) }()
	t.Cleanup(func() { _ = s.Close(); <-served; server.Close() })
	return server, listener.Addr().String(), recorded
}

// route returns a configuration with one service, without a fallback, and more keys of it.
func routeConfig(upstream string, more ...string) string {
	text := "routes:\n  svc:\n    prefix: /svc\n    upstream: " + upstream + "\n"
	for _, line := range more {
		text += "    " + line + "\n"
	}
	return text
}

// rawUpstream serves each connection with handle, which says when it is over.
func rawUpstream(t testing.TB, handle func(n int, c net.Conn, r *bufio.Reader)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				handle(n, c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() { _ = l.Close() })
	return "http://" + l.Addr().String()
}

// takeLittle makes an upload on c that is not read stand soon, however busy the machine is.
func limitReadBuffer(t testing.TB, c net.Conn) {
	t.Helper()
	if err := c.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Error(err)
	}
}

func get(t testing.TB, url string) (*http.Response, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestPathAndQueryReachTheUpstreamUnchanged(t *testing.T) {
	var target string
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { target = r.RequestURI }))
	defer upstream.Close()
	_, address, recorded := start(t, fmt.Sprintf(`
routes:
  plain: {prefix: /plain, upstream: %[1]s}
  kept: {prefix: [/kept, /also/kept], strip_prefix: false, upstream: %[1]s}
  based: {prefix: /based, upstream: "%[1]s/base/"}
  root: {prefix: /, upstream: %[1]s}
`, upstream.URL))
	for in, want := range map[string]string{
		"/plain":                      "/",
		"/plain/":                     "/",
		"/plain/a/b":                  "/a/b",
		"/plain?":                     "/?",
		"/plain/a%2Fb%20c?x=%zz;y&&=": "/a%2Fb%20c?x=%zz;y&&=",
		"/plain/a|b^c\"<>`{}":         "/a|b^c\"<>`{}",
		"/plain//a///b/":              "//a///b/",
		"/pl%61in/x":                  "/x",
		"/plain/..a/.b/c../...":       "/..a/.b/c../...",
		"/plain/\xc3\xa9":             "/\xc3\xa9",
		"/kept/x?y":                   "/kept/x?y",
		"/also/kept":                  "/also/kept",
		"/based":                      "/base",
		"/based/x":                    "/base/x",
		"/plainer/x":                  "/plainer/x", // whole segments: this is root's
		"/":                           "/",
		"/plain/?" + strings.Repeat("a=1&", 12000): "/?" + strings.Repeat("a=1&", 12000),
	} {
		target = "nothing"
		if status := rawStatusLine(t, address, "GET "+in+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.Contains(status, " 200 ") {
			t.Errorf("%.60q: %s", in, status)
			continue
		}
		recorded.next(t)
		if target != want {
			t.Errorf("%.60q reached the upstream as %.60q, want %.60q", in, target, want)
		}
	}
}

// halfClose at the end of a request makes roundTrip say that nothing more will come.
const halfClose = "<EOF>"

// roundTrip sends bytes on a connection of their own and returns the status line of the
// answer.
func rawStatusLine(t testing.TB, address, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	request, ends := strings.CutSuffix(request, halfClose)
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	if ends {
		_ = c.(*net.TCPConn).CloseWrite()
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(answer), "\r\n")
	return line
}

func TestDisallowedRequestsAreRejected(t *testing.T) {
	hits := 0
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits++ }))
	defer upstream.Close()
	_, address, _ := start(t, "limits: {header_bytes: 1KiB}\nroutes: {root: {prefix: /, upstream: "+upstream.URL+"}}")
	for request, want := range map[string]string{
		"GET /a/../b":           "400",
		"GET /a/..":             "400",
		"GET /./a":              "400",
		"GET /a/%2e%2E/b":       "400",
		"GET /a/.%2e":           "400",
		"GET /a/%252e%252e/b":   "400",
		"GET /a%2f..%2fb":       "400",
		"GET /a/..;x=1/b":       "400",
		"GET /a\\b":             "400",
		"GET /a%5cb":            "400",
		"GET /a%00b":            "400",
		"GET /a#b":              "400",
		"GET http://other/../b": "400",
		"CONNECT other:80":      "405",
		"CONNECT /a":            "405",
		"GET /a HTTP/1.1\r\nX-Large: " + strings.Repeat("x", 2000):    "431",
		"GET /a HTTP/1.1\r\nX-Large: " + strings.Repeat("x", 100<<10): "431",
	} {
		if !strings.Contains(request, " HTTP/1.1") {
			request += " HTTP/1.1"
		}
		status := rawStatusLine(t, address, request+"\r\nHost: x\r\nConnection: close\r\n\r\n")
		if !strings.Contains(status, " "+want+" ") {
			t.Errorf("%.60q: %s, want %s", request, status, want)
		}
	}
	if hits != 0 {
		t.Errorf("%d requests reached the upstream", hits)
	}
}
