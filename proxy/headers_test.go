package proxy

import (
	"bufio"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"

	"cbproxy/fallbacks"
	"cbproxy/internal/events"
	"cbproxy/internal/message"
	"cbproxy/routes"
)

// discardObserver ignores all outcomes.
type discardObserver struct{}

func (discardObserver) Service(string) events.Observer  { return discardObserver{} }
func (discardObserver) Forget(string)                   {}
func (discardObserver) Begin()                          {}
func (discardObserver) Failed(events.ErrorType, int)    {}
func (discardObserver) Probed(bool)                     {}
func (discardObserver) HealthChecked(bool)              {}
func (discardObserver) Hedged(bool)                     {}
func (discardObserver) FailedLocally(events.LocalError) {}
func (discardObserver) End(*events.Outcome)             {}

// captureTransport is an http.RoundTripper that stores its last request.
type captureTransport struct{ out *http.Request }

func (c *captureTransport) RoundTrip(out *http.Request) (*http.Response, error) {
	c.out = out
	if err := exchangeOf(out.Context()).attempt.chooseEndpoint(out.URL); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: 204, Header: http.Header{}, Body: http.NoBody, Request: out}, nil
}

// FuzzRewrite checks the request that is sent upstream for any client request: the forwarding fields are the proxy's own, there are
// no hop-by-hop fields, and the target is unchanged.
func FuzzRewrite(f *testing.F) {
	for _, seed := range []string{
		"GET /svc/x?a=1;b=%zz HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n",
		"GET /svc HTTP/1.1\r\nHost: h\r\nConnection: X-Forwarded-For, X-Forwarded-Host, close\r\nX_Forwarded_For: 6.6.6.6\r\nX-Real_IP: 6.6.6.6\r\n",
		"GET /svc//%2F;p HTTP/1.1\r\nHost: h\r\nTE: gzip, trailers\r\nKeep-Alive: 5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: x\r\n",
		"POST http://other/svc/y HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nX-Circuit-Breaker-State: open\r\nX-Fallback: static\r\nProxy-Status: x\r\n",
		"GET /svc/\xff\"| HTTP/1.0\r\nConnection: keep-alive, , \"x\"\r\nUpgrade: websocket\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: h\r\n", "GET /svc HTTP/1.1\r\nHost: h\r\nTrailer: X-Forwarded-For\r\ntraceparent: 00-x\r\n",
	} {
		f.Add(seed)
	}
	loader := routes.Loader{Path: "fuzz.yaml", Builtin: fallbacks.Builtin(), Strategies: fallbacks.Options()}
	c, err := loader.Parse([]byte("routes: {svc: {prefix: /svc, upstream: 'http://upstream:1/base'}}"))
	if err != nil {
		f.Fatal(err)
	}
	s := New(Config{Bus: new(events.Bus), Observers: discardObserver{}, Logger: slog.New(slog.DiscardHandler)})
	if err := s.Apply(c); err != nil {
		f.Fatal(err)
	}
	captured := new(captureTransport)
	s.proxy.Transport = captured
	f.Fuzz(func(t *testing.T, head string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head + "\r\n")))
		if err != nil {
			return
		}
		r.RemoteAddr = "192.0.2.1:1234"
		captured.out = nil
		s.ServeHTTP(httptest.NewRecorder(), r)
		if captured.out != nil {
			checkRewritten(t, r, captured.out)
		}
	})
}

// checkRewritten checks the request out that is sent upstream for the client request in.
func checkRewritten(t *testing.T, in, out *http.Request) {
	for name, values := range out.Header {
		plain := textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-"))
		switch {
		case plain == "X-Forwarded-For" && name == plain && slices.Equal(values, []string{"192.0.2.1"}):
		case plain == "X-Forwarded-Host" && name == plain && slices.Equal(values, []string{in.Host}):
		case plain == "X-Forwarded-Proto" && name == plain && slices.Equal(values, []string{"http"}):
		case plain == "X-Forwarded-Prefix" && name == plain && slices.Equal(values, []string{"/svc"}):
		case plain == "Connection" && slices.Equal(values, []string{"Upgrade"}) && message.IsWebSocket(out.Header["Upgrade"]):
		case plain == "Te" && slices.Equal(values, []string{"trailers"}):
		case plain == "Upgrade" && message.IsWebSocket(values):
		case slices.Contains([]string{"Connection", "Te", "Upgrade", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization",
			"Proxy-Authenticate", "Trailer", "Transfer-Encoding", "Forwarded", "X-Forwarded", "X-Real-Ip", "Proxy-Status"}, plain),
			strings.HasPrefix(plain, "X-Forwarded-"), strings.HasPrefix(plain, "X-Circuit-Breaker-"), plain == "X-Fallback", plain == "X-Fallback-Reason":
			t.Errorf("%s: %q is sent upstream", name, values)
		}
	}
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if out.Header[name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
	if v := in.Header["Traceparent"]; v != nil && !httpguts.HeaderValuesContainsToken(in.Header["Connection"], "traceparent") && !slices.Equal(v, out.Header["Traceparent"]) {
		t.Errorf("traceparent %q became %q", v, out.Header["Traceparent"])
	}
	if out.URL.Host != "upstream:1" || out.URL.Scheme != "http" || out.Host != "" && out.Host != "upstream:1" {
		t.Errorf("sent to %v, Host %q", out.URL, out.Host)
	}
	if out.URL.RawQuery != in.URL.RawQuery {
		t.Errorf("query %q became %q", in.URL.RawQuery, out.URL.RawQuery)
	}
	if path, _, _ := strings.Cut(out.URL.RequestURI(), "?"); !strings.HasPrefix(path, "/base") {
		t.Errorf("path %q is outside the upstream's base path", path)
	}
}
