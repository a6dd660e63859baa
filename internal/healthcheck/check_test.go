package healthcheck_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"cbproxy/internal/certtest"
	"cbproxy/internal/events"
	"cbproxy/internal/healthcheck"
	"cbproxy/internal/message"
	"cbproxy/internal/upstream"
)

// timeout is that of checks which do not time out.
const timeout = 30 * time.Second

// newCheck returns a check for which every status below 400 is that of a healthy upstream.
func newCheck(path string, grpc bool) *healthcheck.Check {
	return &healthcheck.Check{Path: path, GRPC: grpc, Timeout: timeout, Via: message.NewVia("me"), Evaluate: func(status int, _ http.Header) (upstream.ErrorClass, error) {
		if status > 399 {
			return upstream.ErrorClass{Failure: events.ErrorStatus}, errors.New(http.StatusText(status))
		}
		return upstream.ErrorClass{}, nil
	}}
}

// server is an upstream with a pool for it.
type server struct {
	pool   *upstream.Pool
	target upstream.Target
}

func newServer(t *testing.T, rawURL string, config func() *tls.Config) server {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	p := upstream.New(upstream.Config{URL: u, TLS: config})
	t.Cleanup(p.Close)
	return server{p, upstream.TargetOf(u)}
}

func (s server) check(t *testing.T, c *healthcheck.Check) *upstream.Error {
	t.Helper()
	return c.Do(t.Context(), s.pool, s.target, upstream.DoOptions{})
}

// serve starts a server of HTTP/1.1 or of HTTP/2 without TLS, whose URL has the path /base.
func serve(t *testing.T, scheme string, h http.HandlerFunc) server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(scheme == "http")
	s.Config.Protocols.SetUnencryptedHTTP2(scheme == "h2c")
	s.Start()
	t.Cleanup(s.Close)
	return newServer(t, scheme+"://"+s.Listener.Addr().String()+"/base", nil)
}

func TestGetRequest(t *testing.T) {
	for _, scheme := range []string{"http", "h2c"} {
		for path, want := range map[string]string{
			"/healthz":                "/base/healthz",
			"/a%2Fb;c?deep=1&x=%2f?y": "/base/a%2Fb;c?deep=1&x=%2f?y",
			"/?":                      "/base/?",
		} {
			var got string
			var header http.Header
			s := serve(t, scheme, func(w http.ResponseWriter, r *http.Request) { got, header = r.Method+" "+r.RequestURI, r.Header })
			if err := s.check(t, newCheck(path, false)); err != nil {
				t.Fatal(err)
			}
			if got != "GET "+want || header.Get("User-Agent") != "cbproxy-probe" || header.Get("Via") != "1.1 me" {
				t.Errorf("%s is requested as %s with %v", path, got, header)
			}
		}
	}
}

func TestGetResponses(t *testing.T) {
	for name, test := range map[string]struct {
		respond http.HandlerFunc
		failure events.ErrorType // "": healthy
	}{
		"no content":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, ""},
		"a status":    {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, events.ErrorStatus},
		"no response": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, events.ErrorReset},
		"an endless body": {func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, ""},
		"a truncated body": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			_, _ = io.WriteString(w, "abc")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, events.ErrorTruncated},
	} {
		t.Run(name, func(t *testing.T) {
			err := serve(t, "http", test.respond).check(t, newCheck("/", false))
			if err == nil && test.failure != "" || err != nil && err.Failure != test.failure {
				t.Errorf("%v, want %q", err, test.failure)
			}
		})
	}
}

func TestConnectionIsReused(t *testing.T) {
	for scheme, grpc := range map[string]bool{"http": false, "h2c": true} {
		addresses := map[string]bool{}
		s := serve(t, scheme, func(w http.ResponseWriter, r *http.Request) {
			addresses[r.RemoteAddr] = true
			if grpc {
				writeHealth(w, "\x00\x00\x00\x00\x02\x08\x01", "0")
			} else {
				_, _ = io.WriteString(w, "healthy")
			}
		})
		for range 3 {
			if err := s.check(t, newCheck("/", grpc)); err != nil {
				t.Fatal(err)
			}
		}
		if len(addresses) != 1 {
			t.Errorf("%s: 3 checks used %d connections", scheme, len(addresses))
		}
	}
}

func writeHealth(w http.ResponseWriter, body, status string) {
	w.Header().Set("Content-Type", "application/grpc")
	w.WriteHeader(200)
	_, _ = io.WriteString(w, body)
	if status != "" {
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", status)
	}
}

func TestCallRequest(t *testing.T) {
	s := serve(t, "h2c", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != "\x00\x00\x00\x00\x00" || r.ContentLength != 5 || r.Method != "POST" || r.RequestURI != "/base/grpc.health.v1.Health/Check" {
			t.Errorf("%s %s with %q, %v", r.Method, r.RequestURI, body, err)
		}
		for name, want := range map[string]string{"Te": "trailers", "Content-Type": "application/grpc", "Grpc-Timeout": "30000000u", "Via": "1.1 me", "User-Agent": "cbproxy-probe"} {
			if got := r.Header[name]; len(got) != 1 || got[0] != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		writeHealth(w, "\x00\x00\x00\x00\x02\x08\x01", "0")
	})
	if err := s.check(t, newCheck("", true)); err != nil {
		t.Error(err)
	}
}

func TestCallResponses(t *testing.T) {
	for name, test := range map[string]struct {
		respond http.HandlerFunc
		failure events.ErrorType
		detail  string
	}{
		"an HTTP status":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, events.ErrorStatus, "Service Unavailable"},
		"a page":               {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, events.ErrorProtocol, `not a gRPC response: status 200, HTTP/2.0, content type "text/html; charset=utf-8"`},
		"no trailers":          {func(w http.ResponseWriter, _ *http.Request) { writeHealth(w, "\x00\x00\x00\x00\x02\x08\x01", "") }, events.ErrorProtocol, "the response has no grpc-status"},
		"an oversized message": {func(w http.ResponseWriter, _ *http.Request) { writeHealth(w, strings.Repeat("\x00", 1<<20), "0") }, events.ErrorProtocol, "longer than 4101 bytes"},
		"a reset":              {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, events.ErrorReset, ""},
		"a reset after message": {func(w http.ResponseWriter, _ *http.Request) {
			writeHealth(w, "\x00\x00\x00\x00\x02\x08\x01", "0")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, events.ErrorReset, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := serve(t, "h2c", test.respond).check(t, newCheck("", true))
			if err == nil || err.Failure != test.failure || !strings.Contains(err.Error(), test.detail) {
				t.Errorf("%+v, want %q: %s", err, test.failure, test.detail)
			}
		})
	}
}

// A check ends at its timeout, whatever part of the response is missing.
func TestChecksTimeOut(t *testing.T) {
	for _, begin := range []bool{false, true} {
		s := serve(t, "h2c", func(w http.ResponseWriter, r *http.Request) {
			if begin {
				writeHealth(w, "\x00\x00\x00\x00\x02\x08\x01", "")
				_ = http.NewResponseController(w).Flush()
			}
			<-r.Context().Done()
		})
		c := newCheck("", true)
		c.Timeout = 20 * time.Millisecond
		err := s.check(t, c)
		for err != nil && err.Local == events.LocalPause { // a busy machine
			err = s.check(t, c)
		}
		if err == nil || err.Failure != events.ErrorTimeout {
			t.Errorf("%v, want a timeout", err)
		}
	}
}

// A check whose caller ends it counts neither way.
func TestCancelledCheck(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := serve(t, "h2c", func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	if err := newCheck("", true).Do(ctx, s.pool, s.target, upstream.DoOptions{}); err == nil || err.Failure != "" {
		t.Errorf("%v, want neither a success nor a failure", err)
	}
}

// Each check by gRPC of a server that speaks only HTTP/1.1 fails, with and without TLS. It may close the connection before its response
// is read.
func TestCallToHTTP1Server(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "Grpc-Status")
		writeHealth(w, "\x00\x00\x00\x00\x02\x08\x01", "0")
	})
	plain := httptest.NewServer(handler)
	defer plain.Close()
	encrypted := httptest.NewTLSServer(handler)
	defer encrypted.Close()
	for _, s := range []server{
		newServer(t, "h2c://"+plain.Listener.Addr().String(), nil),
		newServer(t, encrypted.URL, func() *tls.Config { return encrypted.Client().Transport.(*http.Transport).TLSClientConfig }),
	} {
		if err := s.check(t, newCheck("", true)); err == nil || err.Failure != events.ErrorProtocol && err.Failure != events.ErrorReset {
			t.Errorf("%+v, want a failure", err)
		}
	}
}

// startGRPC starts a server of grpc-go with the health service, and returns it with the server's address.
func startGRPC(t *testing.T, options ...grpc.ServerOption) (*health.Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, h := grpc.NewServer(options...), health.NewServer()
	grpc_health_v1.RegisterHealthServer(s, h)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return h, l.Addr().String()
}

func TestServerOfGRPC(t *testing.T) {
	authority := certtest.NewAuthority(t)
	certificate, err := tls.X509KeyPair(authority.Sign(t, "rag.test"))
	if err != nil {
		t.Fatal(err)
	}
	plain, plainAddress := startGRPC(t)
	encrypted, encryptedAddress := startGRPC(t, grpc.Creds(credentials.NewServerTLSFromCert(&certificate)))
	config := func(name string) func() *tls.Config {
		return func() *tls.Config { return &tls.Config{RootCAs: authority.Pool(), ServerName: name} }
	}
	for scheme, s := range map[string]struct {
		health *health.Server
		server server
	}{
		"h2c":   {plain, newServer(t, "h2c://"+plainAddress, nil)},
		"https": {encrypted, newServer(t, "https://"+encryptedAddress, config("rag.test"))},
	} {
		for range 2 {
			s.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
			if err := s.server.check(t, newCheck("", true)); err != nil {
				t.Errorf("%s: serving: %v", scheme, err)
			}
			s.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
			if err := s.server.check(t, newCheck("", true)); err == nil || err.Failure != events.ErrorGRPC || err.Error() != "NOT_SERVING" {
				t.Errorf("%s: not serving: %v", scheme, err)
			}
		}
	}
	if err := newServer(t, "https://"+encryptedAddress, config("other.test")).check(t, newCheck("", true)); err == nil || err.Failure != events.ErrorConnect {
		t.Errorf("a certificate for another name: %+v", err)
	}
	if err := newServer(t, "h2c://"+plainAddress+"/base", nil).check(t, newCheck("", true)); err == nil || !strings.Contains(err.Error(), "no health service") {
		t.Errorf("a path that the server does not have: %v", err)
	}
}
