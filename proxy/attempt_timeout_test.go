package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// An attempt that is not answered in time fails, and is repeated if the request may be.
func TestAttemptTimeout(t *testing.T) {
	hang := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	hangInBody := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "the beginning")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	hangInStream := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	const retry = "retry: {attempts: 1, backoff: 1ms, budget: 1}"
	for name, c := range map[string]struct {
		first     http.HandlerFunc
		method    string
		endpoints int
		keys      []string
		attempts  int
		status    int
	}{
		"another endpoint":         {hang, "GET", 2, []string{retry}, 2, 200},
		"the same endpoint":        {hang, "GET", 1, []string{retry}, 2, 200},
		"with a body":              {hang, "PUT", 2, []string{retry}, 2, 200},
		"no retries":               {hang, "GET", 1, nil, 1, 504},
		"method not listed":        {hang, "POST", 2, []string{retry}, 1, 504},
		"body of a small response": {hangInBody, "GET", 1, []string{retry}, 2, 200},
		"first byte of a stream":   {hangInStream, "GET", 2, []string{retry, "stream_commit: first_byte"}, 2, 200},
		"hedged too late":          {hang, "GET", 2, []string{retry, "hedge: {after: 20s, max_ratio: 1}"}, 2, 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upstreams := numberedUpstreams(t, c.endpoints, func(n int, w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if n == 1 {
					c.first(w, r)
					return
				}
				_, _ = fmt.Fprintf(w, "ok%s", body)
			})
			server, address, recorded := start(t, routeConfig(upstreams, append(c.keys, "attempt_timeout: 2s", "timeout: 60s")...))
			body := ""
			if c.method != "GET" {
				body = "body"
			}
			r, _ := http.NewRequest(c.method, "http://"+address+"/svc", strings.NewReader(body))
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			got := bodyOf(t, res)
			o := recorded.next(t)
			if res.StatusCode != c.status || c.status == 200 && got != "ok"+body || o.Attempts != c.attempts || o.Duration > 30*time.Second {
				t.Errorf("status %d, %q, %+v", res.StatusCode, got, o)
			}
			if f := o.Failure; c.status != 200 && (f == nil || f.Type != events.ErrorTimeout || f.Detail != "the route's attempt_timeout passed") {
				t.Errorf("failure %+v", f)
			}
			if failures, _ := recorded.seen(); !slices.Equal(failures, []events.ErrorType{events.ErrorTimeout}) {
				t.Errorf("failures %v", failures)
			}
			left := 0
			if c.status != 200 || c.endpoints > 1 {
				left = 1
			}
			wantQuiet(t, server, left)
		})
	}
}

// A fallback for timeouts answers after an attempt_timeout. It gets the whole body of the request, even if the upstream reads none of it.
func TestAttemptTimeoutHasTheFallbackForTimeouts(t *testing.T) {
	url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		limitReadBuffer(t, c)
		for { // until the proxy closes the connection; the body stays unread
			if _, err := r.Peek(r.Buffered() + 1); err != nil {
				<-t.Context().Done()
				return
			}
		}
	})
	for _, method := range []string{"POST", "PUT"} {
		for _, size := range []int{4, 60_000, 10 << 20} {
			t.Run(fmt.Sprintf("%s %d", method, size), func(t *testing.T) {
				t.Parallel()
				config, calls := withBodyRecorder(t, 20<<20, routeConfig(url, "attempt_timeout: 200ms", "timeout: 60s"))
				_, address, recorded := start(t, strings.Replace(config, "reset, ", "", 1))
				body := strings.Repeat("x", size)
				r, _ := http.NewRequest(method, "http://"+address+"/svc", strings.NewReader(body))
				res, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				_ = bodyOf(t, res)
				if call := nextStrategyCall(t, calls); res.StatusCode != 299 || call.reason != events.ReasonTimeout || call.body != body {
					t.Errorf("status %d, reason %s, %d bytes, %v", res.StatusCode, call.reason, len(call.body), call.err)
				}
				if o := recorded.next(t); o.Result != events.ResultFailure || o.Failure.Type != events.ErrorTimeout || o.Attempts != 1 {
					t.Errorf("%+v %+v", o, o.Failure)
				}
			})
		}
	}
}

// The timer of an attempt ends with the attempt.
func TestAttemptTimersAreStopped(t *testing.T) {
	inOneMode(t)
	upstreams := numberedUpstreams(t, 2, func(_ int, w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	_, address, recorded := start(t, routeConfig(upstreams, "attempt_timeout: 1h", "timeout: 2h", "hedge: {after: 1h, max_ratio: 1}", "retry: {attempts: 1}"))
	send := func(n int) {
		for range n {
			get(t, "http://"+address+"/svc")
			recorded.next(t)
		}
	}
	send(100)
	before, goroutines := heapObjects(), runtime.NumGoroutine()
	const requests = 2000
	send(requests)
	if more := heapObjects() - before; more > 3*requests { // the timer of an attempt would keep all of its exchange
		t.Errorf("%d more objects after %d requests", more, requests)
	}
	if more := runtime.NumGoroutine() - goroutines; more > requests/10 {
		t.Errorf("%d more goroutines after %d requests", more, requests)
	}
}

// heapObjects returns the number of objects that are in use.
func heapObjects() int64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.Mallocs - m.Frees)
}

// A response whose header section has been sent is not limited by attempt_timeout, nor is a tunnel.
func TestAttemptTimeoutEndsWithTheHeaderSection(t *testing.T) {
	for name, c := range map[string]struct {
		contentType, length string
		keys                []string
	}{
		"event stream":                 {"text/event-stream", "", nil},
		"event stream with first_byte": {"text/event-stream", "", []string{"stream_commit: first_byte"}},
		"large body":                   {"text/plain", "100000", nil},
		"unknown length":               {"text/plain", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upstreams := numberedUpstreams(t, 2, func(_ int, w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", c.contentType)
				if c.length != "" {
					w.Header().Set("Content-Length", c.length)
				}
				for range 5 {
					_, _ = io.WriteString(w, strings.Repeat("x", 20_000))
					_ = http.NewResponseController(w).Flush()
					time.Sleep(600 * time.Millisecond)
				}
			})
			server, address, recorded := start(t, routeConfig(upstreams, append(c.keys, "attempt_timeout: 2s", "retry: {attempts: 1}")...))
			res, body := get(t, "http://"+address+"/svc")
			if o := recorded.next(t); res.StatusCode != 200 || len(body) != 100_000 || o.Attempts != 1 || o.Result != events.ResultSuccess {
				t.Errorf("status %d, %d bytes, %+v", res.StatusCode, len(body), o)
			}
			wantQuiet(t, server, 0)
		})
	}
	t.Run("tunnel", func(t *testing.T) {
		t.Parallel()
		url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
			if _, err := http.ReadRequest(r); err == nil {
				_, _ = io.WriteString(c, switchedResponse)
				_, _ = io.Copy(c, r)
			}
		})
		_, address, _ := start(t, routeConfig(url, "attempt_timeout: 1s", "hedge: {after: 100ms, max_ratio: 1}"))
		c, r := openWebSocket(t, address)
		time.Sleep(2 * time.Second) // twice attempt_timeout
		_, _ = io.WriteString(c, "hello\n")
		if line, err := r.ReadString('\n'); line != "hello\n" {
			t.Errorf("%q, %v", line, err)
		}
	})
}

// The time in which the client sends the request's body does not count.
func TestAttemptTimeoutExcludesTheUpload(t *testing.T) {
	for _, method := range []string{"POST", "PUT"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			upstreams := numberedUpstreams(t, 2, func(_ int, w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				_, _ = w.Write(body)
			})
			server, address, recorded := start(t, routeConfig(upstreams, "attempt_timeout: 2s", "hedge: {after: 10ms, max_ratio: 1}", quickHedge[1]))
			c, r := dial(t, address)
			fmt.Fprintf(c, "%s /svc HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n", method)
			for range 10 {
				time.Sleep(300 * time.Millisecond)
				_, _ = io.WriteString(c, "x")
			}
			res := nextResponse(t, r)
			if body := bodyOf(t, res); res.StatusCode != 200 || body != "xxxxxxxxxx" {
				t.Errorf("status %d, %q", res.StatusCode, body)
			}
			if o := recorded.next(t); o.Result != events.ResultSuccess {
				t.Errorf("%+v", o)
			}
			if failures, _ := recorded.seen(); len(failures) > 0 {
				t.Errorf("failures %v", failures)
			}
			wantQuiet(t, server, 0)
		})
	}
}
