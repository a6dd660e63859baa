package upstream_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/fallbacks/fallbacktest"
	_ "cbproxy/fallbacks/standard"
	"cbproxy/fallbacks/upstream"
	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	internalupstream "cbproxy/internal/upstream"
)

// newOptions returns the default options with a URL and a breaker that the first failure opens
// until the test ends.
func newOptions(t testing.TB, url string) *upstream.Options {
	t.Helper()
	o := upstream.DefaultOptions()
	o.URL = fallbacktest.ParseUpstream(t, url)
	o.Breaker.FailMax, o.Breaker.RecoveryTimeout = 1, time.Hour
	return o
}

func breakerOf(c *fallbacks.Chain) *breaker.Breaker {
	return c.Strategy("upstream").(*upstream.Strategy).Breaker()
}

const emptyOK = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

func TestRequestKeepsPathAndQuery(t *testing.T) {
	s := fallbacktest.ServeRaw(t, emptyOK, fallbacktest.Close)
	for _, test := range []struct{ base, rest, query, want string }{
		{"", "/x", "", "/x"},
		{"", "", "", "/"},
		{"", "", "q", "/?q"},
		{"/v1/a", "", "", "/v1/a"},
		{"/v1/a", "/a%2Fb//c", "a=%&b", "/v1/a/a%2Fb//c?a=%&b"},
		{"/v%31", "/%7e/.;x=1/%zz?", "", "/v%31/%7e/.;x=1/%zz?"},
		{"", "/a%2Fb//c", "a=%&b;c=+%20", "/a%2Fb//c?a=%&b;c=+%20"},
		{"", "//evil.example/a%2fb", "x", "//evil.example/a%2fb?x"},
		{"/v1", "//a|b", "", "/v1//a|b"},
		{"", "//a|b%7C%2f", "", "//a%7Cb%7C%2f"}, // net/http encodes invalid characters after //
	} {
		chain := fallbacktest.NewProcess().StartChain(t, "upstream", newOptions(t, s.URL+test.base))
		r := fallbacktest.NewGET()
		r.Req.Rest, r.Req.Query = test.rest, test.query
		if _, err := fallbacktest.Answer(t, chain, r); err != nil {
			t.Errorf("%+v: %v", test, err)
			continue
		}
		line, _, _ := strings.Cut(<-s.Received, "\r\n")
		if line != "GET "+test.want+" HTTP/1.1" {
			t.Errorf("%+v: got %s", test, line)
		}
	}
}

func TestRequestKeepsHeaderAndBody(t *testing.T) {
	s := fallbacktest.ServeRaw(t, emptyOK, fallbacktest.Close)
	r := fallbacktest.NewGET()
	r.Req.Method, r.Content = "PATCH", []byte("kept")
	r.Req.Header = http.Header{"X-Forwarded-For": {"192.0.2.1"}, "Accept-Encoding": {"br"}, "Expect": {"100-continue"}, "Te": {"trailers"}}
	for host, preserve := range map[string]bool{strings.TrimPrefix(s.URL, "http://"): false, "client.example": true} {
		o := newOptions(t, s.URL)
		o.PreserveHost = preserve
		if _, err := fallbacktest.Answer(t, fallbacktest.NewProcess().StartChain(t, "upstream", o), r); err != nil {
			t.Fatal(err)
		}
		want := "PATCH /x HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 4\r\nAccept-Encoding: br\r\nX-Forwarded-For: 192.0.2.1\r\n\r\nkept"
		if got := <-s.Received; got != want {
			t.Errorf("got %q\nwant %q", got, want)
		}
	}
	if len(r.Req.Header) != 4 {
		t.Errorf("the client's header became %v", r.Req.Header)
	}
	r.Req.Method, r.Content = "POST", nil
	if _, err := fallbacktest.Answer(t, fallbacktest.NewProcess().StartChain(t, "upstream", newOptions(t, s.URL)), r); err != nil {
		t.Fatal(err)
	}
	if got := <-s.Received; !strings.Contains(got, "Content-Length: 0\r\n") {
		t.Errorf("POST without a body: %q", got)
	}
}

func TestUpstreamOverH2C(t *testing.T) {
	url := fallbacktest.ServeH2C(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Got", fmt.Sprint(r.Proto, " ", r.RequestURI, " ", r.ContentLength))
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write(body)
	})
	chain := fallbacktest.NewProcess().StartChain(t, "upstream", newOptions(t, url+"/v1"))
	r := fallbacktest.NewGET()
	r.Req.Method, r.Req.Rest, r.Req.Query, r.Content = "POST", "/a%2Fb//c", "a=%&b", []byte("kept")
	a, err := fallbacktest.Answer(t, chain, r)
	if err != nil || a.Status != http.StatusTeapot || string(a.Body) != "kept" || a.Header.Get("X-Got") != "HTTP/2.0 /v1/a%2Fb//c?a=%&b 4" {
		t.Errorf("got %+v, %v", a, err)
	}
	r.Req.Method, r.Content = "HEAD", nil
	if a, err := fallbacktest.Answer(t, chain, r); err != nil || len(a.Body) != 0 {
		t.Errorf("HEAD: got %+v, %v", a, err)
	}
}

// A Content-Length that is that of another response does not count for max_response.
func TestAnswerWithoutContentOverH2C(t *testing.T) {
	url := fallbacktest.ServeH2C(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "99999999")
		if r.Method == http.MethodGet {
			w.WriteHeader(http.StatusNotModified)
		}
	})
	for method, status := range map[string]int{"HEAD": 200, "GET": 304} {
		o := newOptions(t, url)
		o.MaxResponse = 64
		chain := fallbacktest.NewProcess().StartChain(t, "upstream", o)
		r := fallbacktest.NewGET()
		r.Req.Method = method
		if a, err := fallbacktest.Answer(t, chain, r); err != nil || a.Status != status || len(a.Body) != 0 {
			t.Errorf("%s: got %+v, %v", method, a, err)
		}
		if f := breakerOf(chain).Status().LastFailure; f != nil {
			t.Errorf("%s: %+v", method, f)
		}
	}
}

func TestUpstreamOverTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.TLS.ServerName)
	}))
	t.Cleanup(s.Close)
	o := newOptions(t, s.URL)
	o.TLS.ServerName, o.TLS.CAFile = "example.com", filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(o.TLS.CAFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := fallbacktest.Answer(t, fallbacktest.NewProcess().StartChain(t, "upstream", o), fallbacktest.NewGET())
	if err != nil || string(a.Body) != "example.com" {
		t.Errorf("got %+v, %v", a, err)
	}
	o.TLS.CAFile = "missing.pem"
	if _, err := fallbacks.NewChain([]string{"upstream"}, map[string]any{"upstream": o}, fallbacktest.NewProcess().Env(), nil); err == nil {
		t.Error("New succeeds without a transport")
	}
}

func TestResponseIsTheAnswer(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, "text")
	_ = z.Close()
	for name, test := range map[string]struct {
		method, response, body string
		status                 int
	}{
		"length":       {"GET", "200 OK\r\nContent-Length: 2\r\n\r\nhi", "hi", 200},
		"chunks":       {"GET", "200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\nhi\r\n0\r\nX: y\r\n\r\n", "hi", 200},
		"until close":  {"GET", "200 OK\r\n\r\nhi", "hi", 200},
		"not found":    {"GET", "404 Not Found\r\nContent-Length: 2\r\n\r\nno", "no", 404},
		"redirect":     {"GET", "302 Found\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n", "", 302},
		"HEAD":         {"HEAD", "200 OK\r\nContent-Length: 99999999\r\n\r\n", "", 200},
		"no content":   {"GET", "204 No Content\r\n\r\n", "", 204},
		"not modified": {"GET", "304 Not Modified\r\nContent-Length: 99999999\r\n\r\n", "", 304},
		"early hints":  {"GET", "103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "hi", 200},
		"compressed":   {"GET", "200 OK\r\nContent-Encoding: gzip\r\nContent-Length: " + strconv.Itoa(zipped.Len()) + "\r\n\r\n" + zipped.String(), zipped.String(), 200},
		"at the limit": {"GET", "200 OK\r\nContent-Length: 64\r\n\r\n" + strings.Repeat("x", 64), strings.Repeat("x", 64), 200},
	} {
		s := fallbacktest.ServeRaw(t, "HTTP/1.1 "+test.response, fallbacktest.Close)
		o := newOptions(t, s.URL)
		o.MaxResponse = 64
		chain := fallbacktest.NewProcess().StartChain(t, "upstream", o)
		r := fallbacktest.NewGET()
		r.Req.Method = test.method
		a, err := fallbacktest.Answer(t, chain, r)
		if err != nil || a.Status != test.status || string(a.Body) != test.body {
			t.Errorf("%s: got %+v, %v", name, a, err)
		}
		if status := breakerOf(chain).Status(); status.State != events.Closed || status.LastFailure != nil || s.Requests.Load() != 1 {
			t.Errorf("%s: %d requests, breaker %+v", name, s.Requests.Load(), status)
		}
	}
}

func TestAnswerHasNoHopByHopFields(t *testing.T) {
	s := fallbacktest.ServeRaw(t, "HTTP/1.1 200 OK\r\nConnection: X-Private , keep-alive\r\nConnection: X-Other\r\nX-Private: 1\r\nX-Other: 1\r\n"+
		"Keep-Alive: timeout=5\r\nProxy-Connection: close\r\nUpgrade: h2c\r\nTe: trailers\r\nX-Fallback: forged\r\nX-Own: 1\r\nContent-Length: 0\r\n\r\n", fallbacktest.Close)
	// Called directly, because a chain removes some of the fields.
	direct := fallbacktest.NewProcess().StartChain(t, "upstream", newOptions(t, s.URL)).Strategy("upstream")
	a, err := direct.Answer(t.Context(), fallbacktest.NewGET().Request())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Connection", "X-Private", "X-Other", "Keep-Alive", "Proxy-Connection", "Upgrade", "Te"} {
		if a.Header[name] != nil {
			t.Errorf("the answer has %s", name)
		}
	}
	if a.Header.Get("X-Own") != "1" {
		t.Errorf("got %v", a.Header)
	}
}

func TestUnsuitableRequestsAreNotSent(t *testing.T) {
	s := fallbacktest.ServeRaw(t, emptyOK, fallbacktest.Close)
	chain := fallbacktest.NewProcess().StartChain(t, "upstream", newOptions(t, s.URL))
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	with := func(name, value string) *fallbacktest.Client {
		r := fallbacktest.NewGET()
		r.Req.Header.Set(name, value)
		return r
	}
	upgrade := fallbacktest.NewGET()
	upgrade.Req.Upgrade = "websocket"
	long := fallbacktest.NewGET()
	long.Content = make([]byte, 1<<20+1)
	for name, test := range map[string]struct {
		ctx    context.Context
		client *fallbacktest.Client
		want   string
	}{
		"upgrade":   {t.Context(), upgrade, "upgrade"},
		"gRPC":      {t.Context(), with("Content-Type", "Application/gRPC+proto"), "gRPC"},
		"long body": {t.Context(), long, "the request's body is not available: too large"},
		"cancelled": {cancelled, fallbacktest.NewGET(), "canceled"},
		"late":      {late, fallbacktest.NewGET(), "deadline exceeded"},
	} {
		if _, _, err := chain.Answer(test.ctx, test.client, events.ReasonOpen); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	if status := breakerOf(chain).Status(); s.Requests.Load() != 0 || status.LastFailure != nil {
		t.Errorf("%d requests, breaker %+v", s.Requests.Load(), status)
	}
	if chain.BodyLimit() != 1<<20 {
		t.Errorf("body limit %d", chain.BodyLimit())
	}
}

func TestFailuresOpenTheBreaker(t *testing.T) {
	for name, test := range map[string]struct {
		response string
		end      fallbacktest.AfterResponse
		kind     events.ErrorType
	}{
		"silent":             {"", fallbacktest.Hang, events.ErrorTimeout},
		"half a head":        {"HTTP/1.1 200 OK\r\nContent-", fallbacktest.Hang, events.ErrorTimeout},
		"half a body":        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", fallbacktest.Hang, events.ErrorTimeout},
		"no answer":          {"", fallbacktest.Close, events.ErrorReset},
		"truncated":          {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", fallbacktest.Close, events.ErrorTruncated},
		"truncated chunks":   {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhi", fallbacktest.Close, events.ErrorTruncated},
		"malformed chunks":   {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", fallbacktest.Hang, events.ErrorProtocol},
		"malformed":          {"220 mail.example ESMTP\r\n", fallbacktest.Hang, events.ErrorProtocol},
		"status 099":         {"HTTP/1.1 099 What\r\nContent-Length: 0\r\n\r\n", fallbacktest.Hang, events.ErrorProtocol},
		"status 600":         {"HTTP/1.1 600 What\r\nContent-Length: 0\r\n\r\n", fallbacktest.Hang, events.ErrorProtocol},
		"status 101":         {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", fallbacktest.Hang, events.ErrorProtocol},
		"too long":           {"HTTP/1.1 200 OK\r\nContent-Length: 65\r\n\r\n", fallbacktest.Hang, events.ErrorProtocol},
		"too long in chunks": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n41\r\n" + strings.Repeat("x", 0x41) + "\r\n", fallbacktest.Hang, events.ErrorProtocol},
		"failing status":     {"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\n", fallbacktest.Hang, events.ErrorStatus},
		"refused":            {"", fallbacktest.Close, events.ErrorConnect},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fallbacktest.ServeRaw(t, test.response, test.end)
			if name == "refused" {
				s.URL = "http://127.0.0.1:1"
			}
			o := newOptions(t, s.URL)
			o.MaxResponse, o.Timeout = 64, 10*time.Second
			if test.kind == events.ErrorTimeout {
				o.Timeout = 100 * time.Millisecond
			}
			chain := fallbacktest.NewProcess().StartChain(t, "upstream", o)
			r := fallbacktest.NewGET()
			r.Req.Method = "POST" // net/http repeats a GET that got no response on an idle connection
			start := time.Now()
			if a, err := fallbacktest.Answer(t, chain, r); err == nil {
				t.Fatalf("got %+v", a)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
			status := breakerOf(chain).Status()
			if status.State != events.Open || status.LastFailure == nil || status.LastFailure.Type != test.kind {
				t.Fatalf("breaker %+v, last failure %+v, want %s", status, status.LastFailure, test.kind)
			}
			requests := s.Requests.Load()
			if _, err := fallbacktest.Answer(t, chain, r); !errors.Is(err, breaker.ErrOpen) || s.Requests.Load() != requests {
				t.Errorf("open: %v, %d requests", err, s.Requests.Load()-requests)
			}
		})
	}
}

func TestBreakerRecovers(t *testing.T) {
	s := fallbacktest.Serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "well") })
	s.Failing.Store(true)
	o := newOptions(t, s.URL)
	o.Breaker.FailMax, o.Breaker.RecoveryTimeout = 2, 20*time.Millisecond
	p := fallbacktest.NewProcess()
	chain := p.StartChain(t, "upstream", o)
	for range 2 {
		if _, err := fallbacktest.Answer(t, chain, fallbacktest.NewGET()); err == nil || !strings.Contains(err.Error(), "status 503") {
			t.Fatal(err)
		}
	}
	line := p.Log.Await(t, "fallback upstream's breaker changed state", "from=closed", "to=open", "level=WARN")
	if !strings.Contains(line, "status 503") {
		t.Errorf("the record does not have the failure: %s", line)
	}
	p.Log.Await(t, "from=open", "to=half-open") // without a request
	if state, ok := chain.BreakerState(); !ok || state != events.HalfOpen {
		t.Errorf("breaker state %v, %v", state, ok)
	}
	s.Failing.Store(false)
	if a, err := fallbacktest.Answer(t, chain, fallbacktest.NewGET()); err != nil || string(a.Body) != "well" {
		t.Fatalf("got %+v, %v", a, err)
	}
	p.Log.Await(t, "from=half-open", "to=closed")
	if s.Requests.Load() != 3 {
		t.Errorf("%d requests", s.Requests.Load())
	}
}

// In the half-open state the breaker has one permit, which must be returned by calls that count
// neither as success nor as failure.
func TestCancelledCallsReturnTheirPermit(t *testing.T) {
	received := make(chan struct{}, 1)
	s := fallbacktest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			received <- struct{}{}
			<-r.Context().Done()
		}
	})
	p := fallbacktest.NewProcess()
	chain := p.StartChain(t, "upstream", newOptions(t, s.URL))
	b := breakerOf(chain)
	b.Force(events.HalfOpen, 0, "test")
	expectPermit := func() {
		t.Helper()
		if status := b.Status(); status.State != events.HalfOpen || status.ProbesInFlight != 0 || status.LastFailure != nil {
			t.Fatalf("breaker %+v", status)
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-received; cancel() }()
	r := fallbacktest.NewGET()
	r.Req.Rest = "/hang"
	if _, _, err := chain.Answer(ctx, r, events.ReasonOpen); !errors.Is(err, context.Canceled) {
		t.Errorf("client cancelled: %v", err)
	}
	expectPermit()

	if _, _, err := chain.Answer(panicContext{t.Context()}, fallbacktest.NewGET(), events.ReasonOpen); err == nil || !strings.Contains(err.Error(), "panic: broken context") {
		t.Errorf("panic: %v", err)
	}
	expectPermit()

	if _, err := fallbacktest.Answer(t, chain, fallbacktest.NewGET()); err != nil || b.State() != events.Closed {
		t.Errorf("then: %v, breaker %v", err, b.State())
	}
}

// panicContext makes http.Transport panic when it sends a request: it looks up the request's trace.
type panicContext struct{ context.Context }

func (c panicContext) Value(key any) any {
	if strings.Contains(fmt.Sprintf("%T", key), "httptrace") {
		panic("broken context")
	}
	return c.Context.Value(key)
}

func TestEarlierDeadlineCountsAsTimeout(t *testing.T) {
	s := fallbacktest.ServeRaw(t, "", fallbacktest.Hang)
	chain := fallbacktest.NewProcess().StartChain(t, "upstream", newOptions(t, s.URL))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err := chain.Answer(ctx, fallbacktest.NewGET(), events.ReasonOpen)
	if f := breakerOf(chain).Status().LastFailure; err == nil || f == nil || f.Type != events.ErrorTimeout {
		t.Errorf("%v, last failure %+v", err, f)
	}
}

func TestTimeLimitExceedsTimeout(t *testing.T) {
	for _, timeout := range []time.Duration{time.Second, 1<<63 - 1} {
		o := newOptions(t, "http://a")
		o.Timeout = timeout
		s := fallbacktest.NewProcess().NewChain(t, "upstream", o, nil).Strategy("upstream").(fallbacks.TimeLimited)
		if limit := s.TimeLimit(); limit < timeout || limit > timeout+2*time.Second && timeout == time.Second {
			t.Errorf("%v: limit %v", timeout, limit)
		}
	}
}

// Idle connections were opened before the failure and must not decide the recovery.
func TestProbesUseNewConnections(t *testing.T) {
	s := fallbacktest.Serve(t, func(http.ResponseWriter, *http.Request) {})
	chain := fallbacktest.NewProcess().StartChain(t, "upstream", newOptions(t, s.URL))
	for _, want := range []int64{1, 1, 2, 2} {
		if want == 2 && s.Opened.Load() == 1 {
			breakerOf(chain).Force(events.HalfOpen, 0, "test")
		}
		if _, err := fallbacktest.Answer(t, chain, fallbacktest.NewGET()); err != nil || s.Opened.Load() != want {
			t.Errorf("%v, %d connections, want %d", err, s.Opened.Load(), want)
		}
	}
}

func BenchmarkUpstream(b *testing.B) {
	s := fallbacktest.Serve(b, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "well") })
	chain := fallbacktest.NewProcess().StartChain(b, "upstream", newOptions(b, s.URL))
	r := fallbacktest.NewGET()
	r.Req.Method, r.Content = "POST", []byte("kept")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := chain.Answer(b.Context(), r, events.ReasonOpen); err != nil {
			b.Fatal(err)
		}
	}
}

// Without a limit, http.Transport sends a GET on each idle connection that it has.
func TestRequestIsSentTwiceAtMost(t *testing.T) {
	const pool = 10
	var dead atomic.Bool
	var hits atomic.Int32
	var together sync.WaitGroup // makes each request need its own connection
	together.Add(pool)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if dead.Load() {
			hits.Add(1)
			panic(http.ErrAbortHandler)
		}
		together.Done()
		together.Wait()
	}))
	defer server.Close()
	chain := fallbacktest.NewProcess().StartChain(t, "upstream", newOptions(t, server.URL))
	var requests sync.WaitGroup
	for range pool {
		requests.Go(func() {
			if _, err := fallbacktest.Answer(t, chain, fallbacktest.NewGET()); err != nil {
				t.Error(err)
			}
		})
	}
	requests.Wait()
	dead.Store(true)
	if _, err := fallbacktest.Answer(t, chain, fallbacktest.NewGET()); !errors.Is(err, internalupstream.ErrReplayed) {
		t.Errorf("%v", err)
	}
	if f := breakerOf(chain).Status().LastFailure; hits.Load() != 2 || f == nil || f.Type != events.ErrorReset {
		t.Errorf("%d requests, %+v", hits.Load(), f)
	}
}

// A test of the fallback is sent to the second upstream, and its result does not count for the breaker. It is not sent if the breaker
// is not closed.
func TestATestDoesNotCountForTheBreaker(t *testing.T) {
	var status, requests atomic.Int32
	s := fallbacktest.Serve(t, func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.WriteHeader(int(status.Load()))
	})
	o := newOptions(t, s.URL)
	o.Breaker.FailMax = 2
	c := fallbacktest.NewProcess().StartChain(t, "upstream", o)
	b := breakerOf(c)
	test := func() (*fallbacks.Answer, error) {
		a, _, err := c.Answer(t.Context(), fallbacktest.NewGET(), events.ReasonTest)
		return a, err
	}
	status.Store(500)
	if _, err := fallbacktest.Answer(t, c, fallbacktest.NewGET()); err == nil {
		t.Fatal("a failure is no answer")
	}
	before := fmt.Sprintf("%+v", b.Status())
	for _, code := range []int32{500, 200} { // neither opens the breaker nor ends the row of failures
		status.Store(code)
		for range 10 {
			if a, err := test(); (err == nil) != (code == 200) || err == nil && a.Status != 200 {
				t.Errorf("%d: %+v, %v", code, a, err)
			}
		}
	}
	if after := fmt.Sprintf("%+v", b.Status()); after != before || requests.Load() != 21 {
		t.Errorf("after %d requests the breaker was %s and is %s", requests.Load(), before, after)
	}
	for state, want := range map[events.State]error{events.Open: breaker.ErrOpen, events.HalfOpen: breaker.ErrHalfOpenLimit} {
		b.Force(state, time.Hour, "test")
		before := fmt.Sprintf("%+v", b.Status())
		if a, err := test(); !errors.Is(err, want) {
			t.Errorf("%v: %+v, %v", state, a, err)
		}
		if after := fmt.Sprintf("%+v", b.Status()); after != before {
			t.Errorf("the breaker was %s and is %s", before, after)
		}
	}
	if requests.Load() != 21 {
		t.Errorf("the second upstream got %d requests", requests.Load())
	}
}
