package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/internal/events"
)

// strategyCall is a call of bodyRecorder.
type strategyCall struct {
	reason     events.Reason
	body       string
	err        error
	contextErr error // of the context, at the end of the call
}

// bodyRecorder is a strategy that needs request bodies of up to limit bytes and records its calls.
type bodyRecorder struct {
	limit int64
	pause time.Duration
	calls chan strategyCall
}

type bodyRecorderOptions struct {
	Name  string `yaml:"name"`
	Limit int64  `yaml:"limit"`
	// Pause is the duration of a call.
	Pause time.Duration `yaml:"pause"`
}

var bodyRecorders sync.Map // chan strategyCall by test name

func init() {
	fallbacks.Register("test-body-recorder", fallbacks.Factory[bodyRecorderOptions]{New: func(o *bodyRecorderOptions, _ fallbacks.Env) (fallbacks.Strategy, error) {
		return newBodyRecorder(o)
	}})
	fallbacks.Register("test-storer", fallbacks.Factory[bodyRecorderOptions]{New: func(o *bodyRecorderOptions, _ fallbacks.Env) (fallbacks.Strategy, error) {
		r, err := newBodyRecorder(o)
		return storer{r}, err
	}})
}

func newBodyRecorder(o *bodyRecorderOptions) (*bodyRecorder, error) {
	c, ok := bodyRecorders.Load(o.Name)
	if !ok {
		return nil, errors.New("no test has this name")
	}
	return &bodyRecorder{o.Limit, o.Pause, c.(chan strategyCall)}, nil
}

// storer is a bodyRecorder that stores requests.
type storer struct{ *bodyRecorder }

func (storer) StoresRequests() {}

func (k *bodyRecorder) BodyLimit() int64 { return k.limit }

func (k *bodyRecorder) Answer(ctx context.Context, r *fallbacks.Request) (*fallbacks.Answer, error) {
	select {
	case <-ctx.Done():
	case <-time.After(k.pause):
	}
	k.calls <- strategyCall{events.Reason(r.Reason), string(r.Body), r.BodyError, ctx.Err()}
	return &fallbacks.Answer{Status: 299, Header: http.Header{"X-Id": r.Header["X-Id"]}, Body: bytes.Clone(r.Body)}, nil
}

// nextStrategyCall waits for a call of the strategy.
func nextStrategyCall(t testing.TB, c <-chan strategyCall) strategyCall {
	t.Helper()
	select {
	case call := <-c:
		return call
	case <-time.After(20 * time.Second):
		t.Fatal("the strategy was not called within 20s")
		return strategyCall{}
	}
}

// withBodyRecorder adds a fallback with a bodyRecorder to the configuration in text. The channel receives the strategy's calls.
func withBodyRecorder(t testing.TB, limit int, text string) (string, <-chan strategyCall) {
	t.Helper()
	c := make(chan strategyCall, 10_000)
	bodyRecorders.Store(t.Name(), c)
	t.Cleanup(func() { bodyRecorders.Delete(t.Name()) })
	return fmt.Sprintf("fallbacks:\n  svc:\n    when: [open, half_open_limit, connect, timeout, reset, status, overload]\n    try: [test-body-recorder]\n    test-body-recorder: {name: %q, limit: %d}\n", t.Name(), limit) + text, c
}

// upload is a way to send a body.
type upload struct {
	name string
	send func(body string) io.Reader
}

var uploads = []upload{
	{"known length", func(body string) io.Reader { return strings.NewReader(body) }},
	{"unknown length", func(body string) io.Reader { return io.MultiReader(strings.NewReader(body)) }},
	{"in pieces", func(body string) io.Reader {
		r, w := io.Pipe()
		go func() {
			for len(body) > 0 {
				n := min(len(body), max(1, len(body)/3))
				_, _ = io.WriteString(w, body[:n])
				body = body[n:]
				time.Sleep(time.Millisecond)
			}
			_ = w.Close()
		}()
		return r
	}},
}

// The fallback receives the whole body, whatever the reason why the upstream did not respond.
func TestFallbackReceivesTheWholeBody(t *testing.T) {
	hangingUpstream := func(read int) func(testing.TB) string {
		return func(t testing.TB) string {
			return rawUpstream(t, func(_ int, _ net.Conn, r *bufio.Reader) {
				if q, err := http.ReadRequest(r); err == nil {
					_, _ = io.CopyN(io.Discard, q.Body, int64(read))
					if read > 0 {
						_, _ = r.WriteTo(io.Discard) // until the proxy closes the connection
					}
				}
			})
		}
	}
	closingUpstream := func(read int) func(testing.TB) string {
		return func(t testing.TB) string {
			return rawUpstream(t, func(_ int, _ net.Conn, r *bufio.Reader) {
				if q, err := http.ReadRequest(r); err == nil {
					_, _ = io.CopyN(io.Discard, q.Body, int64(read))
				}
			})
		}
	}
	resettingUpstream := func(t testing.TB) string {
		return h2cUpstream(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.CopyN(io.Discard, r.Body, 500)
			panic(http.ErrAbortHandler)
		})
	}
	respondingUpstream := func(status int) func(testing.TB) string {
		return func(t testing.TB) string {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.WriteHeader(status)
			}))
			t.Cleanup(s.Close)
			return s.URL
		}
	}
	const all = 1 << 30
	for name, c := range map[string]struct {
		upstream func(testing.TB) string
		open     bool
		keys     string
		reason   events.Reason
	}{
		"open":                   {closedPort, true, "", events.ReasonOpen},
		"connect":                {closedPort, false, "", events.ReasonConnect},
		"connect, retried":       {closedPort, false, "retry: {attempts: 2, backoff: 1ms, max_backoff: 2ms, methods: [PUT]}", events.ReasonConnect},
		"status":                 {respondingUpstream(503), false, "", events.ReasonStatus},
		"status, retried":        {respondingUpstream(503), false, "retry: {attempts: 2, backoff: 1ms, max_backoff: 2ms, methods: [PUT], budget: 1}", events.ReasonStatus},
		"timeout":                {hangingUpstream(all), false, "timeout: 2s", events.ReasonTimeout}, // far more than the upload takes
		"closed before the body": {closingUpstream(0), false, "", events.ReasonReset},
		"closed within the body": {closingUpstream(500), false, "", events.ReasonReset},
		"closed after the body":  {closingUpstream(300_000), false, "", events.ReasonReset},
		"closed, retried":        {closingUpstream(500), false, "retry: {attempts: 2, backoff: 1ms, max_backoff: 2ms, methods: [PUT], budget: 1}", events.ReasonReset},
		"reset, HTTP/2":          {resettingUpstream, false, "", events.ReasonReset},
		"reset, retried, HTTP/2": {resettingUpstream, false, "retry: {attempts: 2, backoff: 1ms, methods: [PUT], budget: 1}", events.ReasonReset},
	} {
		for version, client := range map[string]*http.Client{"HTTP/1.1": {Transport: &http.Transport{}}, "HTTP/2": h2cClient(t)} {
			for _, up := range uploads {
				for _, size := range []int{1000, 64<<10 + 1, 300_000} {
					t.Run(fmt.Sprintf("%s, %s, %s, %d bytes", name, version, up.name, size), func(t *testing.T) {
						t.Parallel()
						text, strategyCalls := withBodyRecorder(t, 300_000, routeConfig(c.upstream(t), c.keys, "breaker: {fail_max: 0}"))
						server, address, _ := start(t, text)
						if c.open {
							server.Breaker("svc").Force(events.Open, 0, "test")
						}
						body := strings.Repeat("0123456789abcdef", size/16+1)[:size]
						var reused []bool
						requests := 2 // on one connection
						if c.reason == events.ReasonTimeout {
							requests = 1
						}
						for range requests {
							r, _ := http.NewRequest(http.MethodPut, "http://"+address+"/svc", up.send(body))
							res, err := client.Do(r.WithContext(traceReuse(t.Context(), &reused)))
							if err != nil {
								t.Fatal(err)
							}
							got, err := io.ReadAll(res.Body)
							_ = res.Body.Close()
							if res.StatusCode != 299 {
								t.Fatalf("status %d, %.100q, %v, %v", res.StatusCode, got, err, res.Header)
							}
							call := nextStrategyCall(t, strategyCalls)
							if call.err != nil || call.body != body || call.reason != c.reason || call.contextErr != nil {
								t.Errorf("the strategy got %d bytes, %v, %s, context %v", len(call.body), call.err, call.reason, call.contextErr)
							}
							if err != nil || string(got) != body || res.Header.Get("X-Fallback-Reason") != string(c.reason) {
								t.Errorf("%d bytes, %v, %v", len(got), err, res.Header)
							}
						}
						if version == "HTTP/1.1" && (c.open || c.reason == events.ReasonConnect) && !reused[1] {
							t.Error("the connection was not reused")
						}
					})
				}
			}
		}
	}
}

// The client sends the last byte of its body after the upstream has failed, and the strategy is slow. The request's context is not
// cancelled meanwhile, as it would be if the client had disconnected.
func TestRequestContextOutlivesTheUpstream(t *testing.T) {
	closed := make(chan bool)
	url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if q, err := http.ReadRequest(r); err == nil {
			_, _ = io.ReadFull(q.Body, make([]byte, 9))
		}
		_ = c.Close()
		closed <- true
	})
	text, strategyCalls := withBodyRecorder(t, 1000, routeConfig(url, "breaker: {fail_max: 0}"))
	_, address, _ := start(t, strings.Replace(text, "limit: 1000", "limit: 1000, pause: 1500ms", 1))
	conn, r := dial(t, address)
	for range 2 {
		_, _ = io.WriteString(conn, "PUT /svc HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123456789")
		<-closed
		time.Sleep(100 * time.Millisecond) // until the proxy has noticed the close
		_, _ = io.WriteString(conn, "0")
		res := nextResponse(t, r)
		if call := nextStrategyCall(t, strategyCalls); res.StatusCode != 299 || call.err != nil || call.body != "1234567890" || call.contextErr != nil {
			t.Errorf("status %d, the strategy got %+v", res.StatusCode, call)
		}
	}
}

// traceReuse returns a context for a client request that appends to reused whether the request's connection was reused.
func traceReuse(ctx context.Context, reused *[]bool) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { *reused = append(*reused, i.Reused) }})
}

// TestFallbackReadsTheBodyAfterTheTimeout checks that a fallback may wait for the rest of a request's body although the route's
// timeout passes meanwhile: the upstream refuses both connections, the second one shortly before the timeout.
func TestFallbackReadsTheBodyAfterTheTimeout(t *testing.T) {
	text, strategyCalls := withBodyRecorder(t, 1000, routeConfig(closedPort(t), "timeout: 1s", "retry: {attempts: 1, backoff: 700ms, max_backoff: 700ms, methods: [PUT], budget: 1}"))
	_, address, recorded := start(t, text)
	conn, r := dial(t, address)
	_, _ = io.WriteString(conn, "PUT /svc HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
	for _, digit := range "0123456789" { // over 2 s, with pauses that are short enough
		time.Sleep(200 * time.Millisecond)
		_, _ = io.WriteString(conn, string(digit))
	}
	res := nextResponse(t, r)
	if call := nextStrategyCall(t, strategyCalls); res.StatusCode != 299 || call.err != nil || call.body != "0123456789" {
		t.Errorf("status %d, the strategy got %+v, %+v", res.StatusCode, call, recorded.next(t))
	}
}
