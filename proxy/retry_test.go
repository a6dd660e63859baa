package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// flakyUpstream fails a number of requests and answers all later ones with success. It records the requests' bodies.
type flakyUpstream struct {
	*httptest.Server
	requests atomic.Int32
	bodies   chan string
}

// newFlakyUpstream starts a flakyUpstream that answers the first failures requests with fail.
func newFlakyUpstream(t testing.TB, failures int32, fail func(w http.ResponseWriter)) *flakyUpstream {
	f := &flakyUpstream{bodies: make(chan string, 1000)}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := f.requests.Add(1)
		body, _ := io.ReadAll(r.Body)
		f.bodies <- string(body)
		if n <= failures {
			fail(w)
			return
		}
		_, _ = io.WriteString(w, "ok")
	}))
	t.Cleanup(f.Close)
	return f
}

// respondStatus returns a function that responds with a status and no body.
func respondStatus(code int) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { w.WriteHeader(code) }
}

// abortResponse closes the connection without a response.
func abortResponse(http.ResponseWriter) { panic(http.ErrAbortHandler) }

// quickRetry is a retry key with short delays; %s stands for further options.
const quickRetry = "retry: {attempts: 2, backoff: 1ms, max_backoff: 2ms, methods: [GET, PUT]%s}"

func TestFailedAttemptsAreRetried(t *testing.T) {
	truncate := func(w http.ResponseWriter) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "the beginning")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	for name, c := range map[string]struct {
		fail     func(http.ResponseWriter)
		failures int32
		method   string
		body     string
		header   string
		keys     string
		attempts int
		status   int
	}{
		"status":                      {respondStatus(503), 2, "GET", "", "", "", 3, 200},
		"more failures than attempts": {respondStatus(503), 9, "GET", "", "", "", 3, 503},
		"status not listed":           {respondStatus(500), 9, "GET", "", "", "", 1, 500},
		"connection closed":           {abortResponse, 1, "GET", "", "", "", 2, 200},
		"truncated response":          {truncate, 1, "GET", "", "", "", 2, 200},
		"body":                        {respondStatus(502), 2, "PUT", strings.Repeat("x", 60_000), "", "", 3, 200},
		"body of unknown length":      {respondStatus(502), 2, "PUT", "chunked" + strings.Repeat("x", 60_000), "", "", 3, 200},
		"body too large":              {respondStatus(502), 2, "PUT", strings.Repeat("x", 70_000), "", "", 1, 502},
		"too large, unknown length":   {respondStatus(502), 2, "PUT", "chunked" + strings.Repeat("x", 70_000), "", "", 1, 502},
		"method not listed":           {respondStatus(503), 9, "POST", "x", "", "", 1, 503},
		"idempotency_key not set":     {respondStatus(503), 9, "POST", "x", "Idempotency-Key", "", 1, 503},
		"idempotency_key set":         {respondStatus(503), 1, "POST", "x", "Idempotency-Key", ", idempotency_key: true", 2, 200},
		"no budget":                   {respondStatus(503), 9, "GET", "", "", ", budget: 0", 1, 503},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFlakyUpstream(t, c.failures, c.fail)
			_, address, recorded := start(t, routeConfig(f.URL, fmt.Sprintf(quickRetry, c.keys), "breaker: {fail_max: 10}"))
			body := io.Reader(strings.NewReader(c.body))
			if strings.HasPrefix(c.body, "chunked") {
				body = io.MultiReader(body)
			}
			r, _ := http.NewRequest(c.method, "http://"+address+"/svc", body)
			if c.header != "" {
				r.Header.Set(c.header, "k")
			}
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			o := recorded.next(t)
			if res.StatusCode != c.status || o.Attempts != c.attempts || int(f.requests.Load()) != c.attempts {
				t.Errorf("status %d, %d attempts, %d requests received; want %d and %d", res.StatusCode, o.Attempts, f.requests.Load(), c.status, c.attempts)
			}
			if want := events.ResultSuccess; c.status == 200 && (o.Result != want || o.Failure != nil) {
				t.Errorf("outcome %+v, want %s", o, want)
			}
			for range c.attempts {
				if got := <-f.bodies; got != c.body {
					t.Errorf("an attempt's body has %d bytes, want %d", len(got), len(c.body))
				}
			}
			if failed := len(recorded.failures); failed != min(int(c.failures), c.attempts) {
				t.Errorf("%d failures counted", failed)
			}
		})
	}
}

func TestConnectFailureIsRetried(t *testing.T) {
	_, address, recorded := start(t, routeConfig(closedPort(t), fmt.Sprintf(quickRetry, "")))
	res, _ := get(t, "http://"+address+"/svc")
	o := recorded.next(t)
	if res.StatusCode != 502 || o.Attempts != 3 || o.Failure.Type != events.ErrorConnect {
		t.Errorf("status %d, %+v", res.StatusCode, o)
	}
}

func TestRetriesStopWhenTheBreakerOpens(t *testing.T) {
	f := newFlakyUpstream(t, 99, respondStatus(503))
	server, address, recorded := start(t, routeConfig(f.URL, "retry: {attempts: 9, backoff: 1ms, budget: 1}", "breaker: {fail_max: 3}"))
	res, _ := get(t, "http://"+address+"/svc")
	o := recorded.next(t)
	if res.StatusCode != 503 || o.Attempts != 3 || f.requests.Load() != 3 || server.Breaker("svc").State() != events.Open {
		t.Errorf("status %d, %d attempts, %d requests received, breaker %v", res.StatusCode, o.Attempts, f.requests.Load(), server.Breaker("svc").State())
	}
	if got := res.Header.Get("X-Circuit-Breaker-State"); got != "closed" {
		t.Errorf("state %q, want closed, which admitted the attempt whose response was sent", got)
	}
}

// A breaker in shadow mode rejects neither first attempts nor retries.
func TestShadowModeAllowsRetries(t *testing.T) {
	f := newFlakyUpstream(t, 3, respondStatus(503))
	_, address, recorded := start(t, routeConfig(f.URL, "retry: {attempts: 3, backoff: 1ms}", "breaker: {fail_max: 1, mode: shadow}"))
	res, _ := get(t, "http://"+address+"/svc")
	if o := recorded.next(t); res.StatusCode != 200 || o.Attempts != 4 {
		t.Errorf("status %d, %+v", res.StatusCode, o)
	}
}

func TestRetriesStayWithinTheBudget(t *testing.T) {
	f := newFlakyUpstream(t, 1<<30, respondStatus(503))
	_, address, recorded := start(t, routeConfig(f.URL, "retry: {attempts: 3, backoff: 1ms, max_backoff: 1ms, budget: 0.25}", "breaker: {fail_max: 0}"))
	const requests = 100
	for range requests {
		get(t, "http://"+address+"/svc")
		recorded.next(t)
	}
	retries := int(f.requests.Load()) - requests
	if most := requests/4 + 3; retries > most || retries < requests/4 {
		t.Errorf("%d retries for %d requests, want %d at most", retries, requests, most)
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	f := newFlakyUpstream(t, 1, func(w http.ResponseWriter) {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(503)
	})
	for name, fallback := range map[string]string{
		"no fallback":             "",
		"fallback for the status": "fallbacks: {svc: {when: [status], try: [static], static: {body: {}}}}\n",
	} {
		f.requests.Store(0)
		_, address, recorded := start(t, fallback+routeConfig(f.URL, fmt.Sprintf(quickRetry, "")))
		began := time.Now()
		res, body := get(t, "http://"+address+"/svc")
		recorded.next(t)
		if took := time.Since(began); res.StatusCode != 200 || body != "ok" || took < time.Second {
			t.Errorf("%s: status %d, %q after %v", name, res.StatusCode, body, took)
		}
	}
}

// If the upstream's Retry-After exceeds the remaining timeout, its response is forwarded at once.
func TestNoRetryIfRetryAfterExceedsTheTimeout(t *testing.T) {
	f := newFlakyUpstream(t, 1, func(w http.ResponseWriter) {
		w.Header().Set("Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
		w.WriteHeader(503)
		_, _ = io.WriteString(w, "busy")
	})
	_, address, recorded := start(t, routeConfig(f.URL, "timeout: 15s", fmt.Sprintf(quickRetry, "")))
	res, body := get(t, "http://"+address+"/svc")
	if o := recorded.next(t); res.StatusCode != 503 || body != "busy" || o.Attempts != 1 || o.Duration > 10*time.Second {
		t.Errorf("status %d, %q, %+v", res.StatusCode, body, o)
	}
}

// The timeout covers all attempts of a request together.
func TestOneTimeoutCoversAllAttempts(t *testing.T) {
	url := rawUpstream(t, func(n int, c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil && n > 0 {
			_, _ = r.ReadByte() // until the proxy closes the connection
		}
	})
	_, address, recorded := start(t, routeConfig(url, "timeout: 0.3", "retry: {attempts: 5, backoff: 1ms, max_backoff: 1ms, budget: 1}"))
	res, _ := get(t, "http://"+address+"/svc")
	o := recorded.next(t)
	if res.StatusCode != 504 || o.Attempts != 2 || o.Failure.Type != events.ErrorTimeout {
		t.Errorf("status %d, %+v %+v", res.StatusCode, o, o.Failure)
	}
}

func TestProbeIsNotRetried(t *testing.T) {
	f := newFlakyUpstream(t, 1<<30, respondStatus(503))
	server, address, recorded := start(t, routeConfig(f.URL, fmt.Sprintf(quickRetry, ""), "breaker: {fail_max: 1}"))
	server.Breaker("svc").Force(events.HalfOpen, 0, "test")
	get(t, "http://"+address+"/svc")
	if o := recorded.next(t); o.Attempts != 1 || o.State != events.HalfOpen || server.Breaker("svc").State() != events.Open {
		t.Errorf("%+v, breaker %v", o, server.Breaker("svc").State())
	}
}

// An upstream responds with a failure status before it has read the upload. If the request is retried, the next attempt sends what
// has arrived of the body and then the rest.
func TestRetryDuringAnUploadSendsTheWholeBody(t *testing.T) {
	refused := make(chan struct{})
	second := make(chan string, 1)
	url := rawUpstream(t, func(n int, c net.Conn, r *bufio.Reader) {
		q, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if n == 0 {
			_, _ = io.ReadFull(q.Body, make([]byte, 5))
			_, _ = io.WriteString(c, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			close(refused)
			return
		}
		body, _ := io.ReadAll(q.Body)
		second <- string(body)
		_, _ = io.WriteString(c, okResponse)
	})
	_, address, recorded := start(t, routeConfig(url, fmt.Sprintf(quickRetry, "")))
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "PUT /svc HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
	<-refused
	fmt.Fprint(c, "world")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	o := recorded.next(t)
	// The rest of the body may arrive too late for a retry. If there is a second attempt, it has the whole body.
	if o.Attempts == 2 && (res.StatusCode != 200 || <-second != "helloworld") {
		t.Errorf("status %d, %+v", res.StatusCode, o)
	}
	if o.Attempts == 1 && res.StatusCode != 503 {
		t.Errorf("status %d, %+v", res.StatusCode, o)
	}
}

func TestClientDisconnectStopsRetries(t *testing.T) {
	f := newFlakyUpstream(t, 1<<30, func(w http.ResponseWriter) {
		w.Header().Set("Retry-After", "5")
		w.WriteHeader(503)
	})
	_, address, recorded := start(t, routeConfig(f.URL, fmt.Sprintf(quickRetry, "")))
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "GET /svc HTTP/1.1\r\nHost: x\r\n\r\n")
	<-f.bodies
	_ = c.Close()
	if o := recorded.next(t); o.Attempts != 1 || o.Duration > 4*time.Second {
		t.Errorf("%+v", o)
	}
}

// A response with a status that is retried is closed before its end. Its attempt must return its permit of the half-open breaker.
func TestDiscardedResponseReleasesProbePermit(t *testing.T) {
	f := newFlakyUpstream(t, 2, nil)
	f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch f.requests.Add(1) {
		case 1:
			w.WriteHeader(http.StatusInternalServerError)
		case 2:
			w.Header().Set("Content-Length", "100000") // larger than response_buffer
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, strings.Repeat("x", 100_000))
		}
	})
	server, address, _ := start(t, routeConfig(f.URL, fmt.Sprintf(quickRetry, ", statuses: [429]"),
		"breaker: {fail_max: 1, recovery_timeout: 10ms, half_open_requests: 2, recovery_backoff: {jitter: 0}}"))
	b := server.Breaker("svc")
	get(t, "http://"+address+"/svc")
	waitForState(t, b, events.HalfOpen)
	if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != http.StatusOK {
		t.Fatalf("status %d", res.StatusCode)
	}
	if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != http.StatusOK || b.State() != events.Closed {
		t.Errorf("status %d, breaker %v; want 200 and closed", res.StatusCode, b.State())
	}
}

// TestRetryWaitsLongerThanTheIdleTimeout checks that the idle timeout of a stream that failed does not end the wait for the next
// attempt.
func TestRetryWaitsLongerThanTheIdleTimeout(t *testing.T) {
	f := newFlakyUpstream(t, 1, func(w http.ResponseWriter) {
		w.Header().Set("Retry-After", "1")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	_, address, recorded := start(t, routeConfig(f.URL, "retry: {attempts: 1, backoff: 1ms, max_backoff: 2ms, budget: 1}", "stream_commit: first_byte", "idle_timeout: 200ms", "timeout: 20s"))
	res, body := get(t, "http://"+address+"/svc")
	if o := recorded.next(t); res.StatusCode != 200 || body != "ok" || o.Attempts != 2 {
		t.Errorf("status %d, %q, %+v", res.StatusCode, body, o)
	}
}
