package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/events"
	"cbproxy/proxy"
)

// numberedUpstreams starts upstreams with a common handler, which gets the number of the attempt if there is an attemptTracer, and otherwise
// that of the request, from 1 on. It returns their URLs as the value of the key upstream.
func numberedUpstreams(t testing.TB, count int, handle func(n int, w http.ResponseWriter, r *http.Request)) string {
	var requests atomic.Int64
	urls := make([]string, count)
	for i := range urls {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n := int(requests.Add(1))
			if attempt, err := strconv.Atoi(r.Header.Get("X-Attempt")); err == nil {
				n = attempt
			}
			handle(n, w, r)
		}))
		t.Cleanup(s.Close)
		urls[i] = s.URL
	}
	return "[" + strings.Join(urls, ", ") + "]"
}

// quickHedge is keys of a route that sends a hedge soon, and no retries. The budgets allow a hedge of each request.
var quickHedge = []string{"hedge: {after: 10ms, max_ratio: 1}", "retry: {attempts: 0, budget: 1, methods: [GET, PUT]}"}

// hedgedConfig is routeConfig with quickHedge and further keys.
func hedgedConfig(upstream string, keys ...string) string {
	return routeConfig(upstream, append(keys, quickHedge...)...)
}

// until waits for an event in a handler, at most until the request ends.
func until(r *http.Request, event <-chan struct{}) {
	select {
	case <-event:
	case <-r.Context().Done():
	}
}

// wantQuiet waits until no attempt is in flight at an endpoint, and checks the sum of the endpoints' consecutive failures.
func wantQuiet(t *testing.T, server *proxy.Server, failures int) {
	t.Helper()
	if failed := wantNoneInFlight(t, server); failed != failures {
		t.Errorf("%d consecutive failures of endpoints, want %d", failed, failures)
	}
}

// wantNoneInFlight waits until no attempt is in flight at an endpoint, and returns the sum of the endpoints' consecutive failures.
func wantNoneInFlight(t *testing.T, server *proxy.Server) (failures int) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		inFlight, failed := int64(0), 0
		for _, e := range server.Endpoints("svc") {
			inFlight, failed = inFlight+e.InFlight, failed+e.FailCounter
		}
		if inFlight == 0 {
			return failed
		}
		if time.Now().After(limit) {
			t.Fatalf("%d attempts are in flight", inFlight)
		}
	}
}

// seen returns copies of the failures and hedges that have been recorded.
func (r *recorder) seen() (failures []events.ErrorType, hedges []bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.failures), slices.Clone(r.hedges)
}

// waitFailures waits until n failures have been recorded. It is for any goroutine.
func (r *recorder) waitFailures(n int) {
	for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit); time.Sleep(time.Millisecond) {
		if failures, _ := r.seen(); len(failures) >= n {
			return
		}
	}
}

// The faster of two attempts is used. The other one is cancelled, and counts for nothing.
func TestTheFasterAttemptIsUsed(t *testing.T) {
	for _, endpoints := range []int{1, 2} {
		for _, won := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d endpoints, won %t", endpoints, won), func(t *testing.T) {
				t.Parallel()
				hedged, cancelled := make(chan struct{}), make(chan struct{})
				var answered atomic.Value
				upstreams := numberedUpstreams(t, endpoints, func(n int, w http.ResponseWriter, r *http.Request) {
					if n == 2 {
						close(hedged)
					}
					if (n == 2) != won {
						<-r.Context().Done()
						close(cancelled)
						return
					}
					until(r, hedged)
					answered.Store("http://" + r.Host)
					_, _ = io.WriteString(w, "ok")
				})
				server, address, recorded, tracer := startTraced(t, hedgedConfig(upstreams, "breaker: {fail_max: 1}"))
				res, body := get(t, "http://"+address+"/svc")
				o := recorded.next(t)
				<-cancelled
				if res.StatusCode != 200 || body != "ok" || o.Result != events.ResultSuccess || o.Attempts != 2 || !o.Hedged || o.Endpoint != answered.Load() {
					t.Errorf("status %d, %q, %+v; answered by %v", res.StatusCode, body, o, answered.Load())
				}
				if failures, hedges := recorded.seen(); len(failures) > 0 || !slices.Equal(hedges, []bool{won}) {
					t.Errorf("failures %v, hedges %v", failures, hedges)
				}
				if state := server.Breaker("svc").State(); state != events.Closed {
					t.Errorf("breaker %v", state)
				}
				wantQuiet(t, server, 0)
				for _, span := range tracer.ended(t, 2) {
					result := events.ResultSuccess
					if span.Hedge != won {
						result = events.ResultCancelled
					}
					if span.ends != 1 || span.end.Result != result || span.end.Failure != nil || span.Hedge && span.end.HedgeWon != won || span.Endpoint == "" {
						t.Errorf("%+v", span)
					}
				}
			})
		}
	}
}

// If one of two attempts fails, the response of the other one is used, and only the endpoint and the metrics hear of the failure.
func TestAFailureIsHiddenByTheOtherAttempt(t *testing.T) {
	for name, c := range map[string]struct {
		fail func(http.ResponseWriter)
		kind events.ErrorType
	}{
		"retried status":     {respondStatus(503), events.ErrorStatus},
		"other status":       {respondStatus(500), events.ErrorStatus},
		"connection closed":  {abortResponse, events.ErrorReset},
		"malformed response": {func(w http.ResponseWriter) { hijackAndWrite(w, "HTTP/1.1 999999 x\r\n\r\n") }, events.ErrorProtocol},
	} {
		for _, failing := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s, attempt %d", name, failing), func(t *testing.T) {
				t.Parallel()
				hedged, failed := make(chan struct{}), make(chan struct{})
				upstreams := numberedUpstreams(t, 2, func(n int, w http.ResponseWriter, r *http.Request) {
					if n == 2 {
						close(hedged)
					}
					if n != failing {
						until(r, failed)
						_, _ = io.WriteString(w, "ok")
						return
					}
					until(r, hedged)
					c.fail(w)
				})
				server, address, recorded, _ := startTraced(t, hedgedConfig(upstreams, "breaker: {fail_max: 1}"))
				go func() {
					defer close(failed)
					if c.kind == events.ErrorStatus { // reported together with the other attempt's response
						<-hedged
						time.Sleep(100 * time.Millisecond)
						return
					}
					recorded.waitFailures(1)
				}()
				res, body := get(t, "http://"+address+"/svc")
				o := recorded.next(t)
				if res.StatusCode != 200 || body != "ok" || o.Result != events.ResultSuccess || o.Failure != nil || o.Attempts != 2 {
					t.Errorf("status %d, %q, %+v", res.StatusCode, body, o)
				}
				failures, hedges := recorded.seen()
				if len(failures) == 0 && c.kind == events.ErrorStatus {
					t.Skip("the other attempt was faster than the failure")
				}
				if !slices.Equal(failures, []events.ErrorType{c.kind}) || !slices.Equal(hedges, []bool{failing == 1}) {
					t.Errorf("failures %v, hedges %v", failures, hedges)
				}
				if state := server.Breaker("svc").State(); state != events.Closed {
					t.Errorf("breaker %v", state)
				}
				wantQuiet(t, server, 1)
			})
		}
	}
}

// hijackAndWrite writes text to the connection of w and closes it.
func hijackAndWrite(w http.ResponseWriter, text string) {
	c, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	_, _ = io.WriteString(c, text)
	_ = c.Close()
}

// If both attempts fail, the breaker hears of one failure, and the client gets a response rather than an error.
func TestBothAttemptsFail(t *testing.T) {
	longText := strings.Repeat("busy", 10_000) // longer than what is read together with the header section
	for name, c := range map[string]struct {
		fail   [2]func(http.ResponseWriter)
		keys   []string
		prefix string
		status int
		body   string
		kinds  []events.ErrorType // sorted
	}{
		"a response and a reset": {
			[2]func(http.ResponseWriter){respondText(503, "busy"), abortResponse}, nil, "",
			503, "busy", []events.ErrorType{events.ErrorReset, events.ErrorStatus},
		},
		"a reset and a response": {
			[2]func(http.ResponseWriter){abortResponse, respondText(503, "busy")}, nil, "",
			503, "busy", []events.ErrorType{events.ErrorReset, events.ErrorStatus},
		},
		"two resets": {
			[2]func(http.ResponseWriter){abortResponse, abortResponse}, nil, "",
			502, "", []events.ErrorType{events.ErrorReset, events.ErrorReset},
		},
		"fallback": {
			[2]func(http.ResponseWriter){abortResponse, respondText(503, "busy")}, nil,
			"fallbacks: {svc: {when: [status], try: [static], static: {body: fallback}}}\n",
			200, "\"fallback\"", []events.ErrorType{events.ErrorReset, events.ErrorStatus},
		},
		"timeouts": {
			[2]func(http.ResponseWriter){nil, nil}, []string{"attempt_timeout: 2s"}, "",
			504, "", []events.ErrorType{events.ErrorTimeout, events.ErrorTimeout},
		},
		"a response and a timeout": { // the time limit of the first attempt passes before that of the second one
			[2]func(http.ResponseWriter){respondText(503, longText), nil}, []string{"attempt_timeout: 2s"}, "",
			503, longText, []events.ErrorType{events.ErrorStatus, events.ErrorTimeout},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hedged := make(chan struct{})
			upstreams := numberedUpstreams(t, 2, func(n int, w http.ResponseWriter, r *http.Request) {
				if n == 2 {
					close(hedged)
				}
				if c.fail[n-1] == nil {
					<-r.Context().Done()
					return
				}
				until(r, hedged)
				c.fail[n-1](w)
			})
			server, address, recorded, _ := startTraced(t, c.prefix+hedgedConfig(upstreams, append(c.keys, "breaker: {fail_max: 2}")...))
			res, body := get(t, "http://"+address+"/svc")
			o := recorded.next(t)
			if res.StatusCode != c.status || c.body != "" && strings.TrimSpace(body) != c.body || o.Result != events.ResultFailure || o.Attempts != 2 {
				t.Errorf("status %d, %.100q, %+v", res.StatusCode, body, o)
			}
			failures, hedges := recorded.seen()
			slices.Sort(failures)
			if !slices.Equal(failures, c.kinds) || !slices.Equal(hedges, []bool{false}) {
				t.Errorf("failures %v, hedges %v", failures, hedges)
			}
			if s := server.Breaker("svc").Status(); s.State != events.Closed || s.ConsecutiveFailures != 1 {
				t.Errorf("breaker %v after %d failures, want one", s.State, s.ConsecutiveFailures)
			}
			wantQuiet(t, server, 2)
		})
	}
}

// respondText returns a function that responds with a status and a text.
func respondText(code int, text string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		w.WriteHeader(code)
		_, _ = io.WriteString(w, text)
	}
}

// After two attempts at the same time have failed, a retry follows.
func TestRetryAfterAFailedHedge(t *testing.T) {
	upstreams := numberedUpstreams(t, 2, func(n int, w http.ResponseWriter, r *http.Request) {
		if n <= 2 {
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, "ok")
	})
	server, address, recorded, _ := startTraced(t, routeConfig(upstreams, "hedge: {after: 10ms, max_ratio: 1}", "attempt_timeout: 2s",
		"retry: {attempts: 2, backoff: 1ms, budget: 1}", "breaker: {fail_max: 1}"))
	res, body := get(t, "http://"+address+"/svc")
	o := recorded.next(t)
	if res.StatusCode != 200 || body != "ok" || o.Result != events.ResultSuccess || o.Attempts != 3 || !o.Hedged {
		t.Errorf("status %d, %q, %+v", res.StatusCode, body, o)
	}
	if failures, _ := recorded.seen(); !slices.Equal(failures, []events.ErrorType{events.ErrorTimeout, events.ErrorTimeout}) {
		t.Errorf("failures %v", failures)
	}
	if state := server.Breaker("svc").State(); state != events.Closed {
		t.Errorf("breaker %v", state)
	}
	wantQuiet(t, server, 1)
}

// Some requests are never hedged.
func TestRequestsThatAreNotHedged(t *testing.T) {
	for name, c := range map[string]struct {
		method string
		body   io.Reader
		keys   []string
		state  events.State
	}{
		"method not listed":     {"POST", nil, quickHedge, events.Closed},
		"body too large":        {"PUT", strings.NewReader(strings.Repeat("x", 70_000)), quickHedge, events.Closed},
		"unknown length":        {"PUT", io.MultiReader(strings.NewReader(strings.Repeat("x", 70_000))), quickHedge, events.Closed},
		"half-open":             {"GET", nil, quickHedge, events.HalfOpen},
		"no retry budget":       {"GET", nil, []string{quickHedge[0], "retry: {attempts: 0, budget: 0}"}, events.Closed},
		"answered before after": {"GET", nil, []string{"hedge: {after: 30s, max_ratio: 1}", "timeout: 60s"}, events.Closed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requests := make(chan struct{}, 10)
			upstreams := numberedUpstreams(t, 2, func(_ int, w http.ResponseWriter, r *http.Request) {
				requests <- struct{}{}
				_, _ = io.Copy(io.Discard, r.Body)
				time.Sleep(100 * time.Millisecond) // longer than hedge.after
				_, _ = io.WriteString(w, "ok")
			})
			server, address, recorded := start(t, routeConfig(upstreams, c.keys...))
			if c.state != events.Closed {
				server.Breaker("svc").Force(c.state, 0, "test")
			}
			r, _ := http.NewRequest(c.method, "http://"+address+"/svc", c.body)
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = bodyOf(t, res)
			if o := recorded.next(t); res.StatusCode != 200 || o.Attempts != 1 || o.Hedged || len(requests) != 1 {
				t.Errorf("status %d, %+v, %d requests", res.StatusCode, o, len(requests))
			}
			wantQuiet(t, server, 0)
		})
	}
}

// Both attempts have the same body.
func TestHedgesHaveTheBody(t *testing.T) {
	for name, body := range map[string]io.Reader{
		"small":                 strings.NewReader("hello"),
		"60 kB":                 strings.NewReader(strings.Repeat("hello ", 10_000)),
		"unknown length":        io.MultiReader(strings.NewReader("hello")),
		"empty, unknown length": io.MultiReader(strings.NewReader("")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bodies, cancelled := make(chan string, 2), make(chan struct{})
			upstreams := numberedUpstreams(t, 2, func(n int, w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				bodies <- fmt.Sprint(string(body), err, r.ContentLength, r.TransferEncoding)
				if n == 1 {
					select {
					case <-r.Context().Done():
					case <-time.After(10 * time.Second): // there is no hedge
					}
					close(cancelled)
				}
				_, _ = io.WriteString(w, "ok")
			})
			server, address, recorded, _ := startTraced(t, routeConfig(upstreams, "hedge: {after: 200ms, max_ratio: 1}", quickHedge[1], "breaker: {fail_max: 1}"))
			r, _ := http.NewRequest("PUT", "http://"+address+"/svc", body)
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if body := bodyOf(t, res); res.StatusCode != 200 || body != "ok" {
				t.Errorf("status %d, %q", res.StatusCode, body)
			}
			<-cancelled
			if len(bodies) == 1 {
				t.Skip("the body took longer than hedge.after")
			}
			if first, second := <-bodies, <-bodies; first != second {
				t.Errorf("the bodies are %.100q and %.100q", first, second)
			}
			if o := recorded.next(t); o.Result != events.ResultSuccess || o.Attempts != 2 {
				t.Errorf("%+v", o)
			}
			if failures, _ := recorded.seen(); len(failures) > 0 {
				t.Errorf("failures %v", failures)
			}
			wantQuiet(t, server, 0)
		})
	}
}

// A hedge takes one token of its budget, to which each request adds max_ratio.
func TestHedgesStayWithinTheirBudget(t *testing.T) {
	inOneMode(t)
	var expected atomic.Bool
	hedged := make(chan struct{}, 1)
	var current atomic.Int64
	upstreams := numberedUpstreams(t, 2, func(_ int, w http.ResponseWriter, r *http.Request) {
		switch {
		case current.Add(1) > 1:
			hedged <- struct{}{}
			<-r.Context().Done()
		case expected.Load():
			until(r, hedged)
		default:
			time.Sleep(20 * time.Millisecond) // longer than hedge.after
		}
		_, _ = io.WriteString(w, "ok")
	})
	server, address, recorded := start(t, routeConfig(upstreams, "hedge: {after: 1ms, max_ratio: 0.1}", "retry: {attempts: 0, budget: 1}"))
	tokens := 10 // tenths: a bucket starts with one token
	for range 100 {
		tokens++
		current.Store(0)
		expected.Store(tokens >= 10)
		if expected.Load() {
			tokens -= 10
		}
		res, _ := get(t, "http://"+address+"/svc")
		if o := recorded.next(t); res.StatusCode != 200 || o.Hedged != expected.Load() {
			t.Fatalf("status %d, %+v; hedge expected: %t", res.StatusCode, o, expected.Load())
		}
		wantQuiet(t, server, 0)
	}
	if _, hedges := recorded.seen(); len(hedges) != 11 {
		t.Errorf("%d hedges of 100 requests, want 11", len(hedges))
	}
}
