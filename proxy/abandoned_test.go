package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// hangingUpstream receives a request, sends head and then nothing more.
func hangingUpstream(t testing.TB, head string) (url string, arrived <-chan struct{}) {
	received := make(chan struct{}, 1)
	return rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		_, _ = io.WriteString(c, head)
		received <- struct{}{}
		_, _ = io.Copy(io.Discard, r) // until the connection is closed
	}), received
}

// abandonRequest sends a request and aborts it when it has arrived at the upstream and wait has passed.
func abandonRequest(t testing.TB, address, body string, arrived <-chan struct{}, wait time.Duration) {
	t.Helper()
	ctx, abort := context.WithCancel(t.Context())
	defer abort()
	r, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/svc", strings.NewReader(body))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if res, err := http.DefaultTransport.RoundTrip(r); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
		}
	}()
	<-arrived
	<-time.After(wait)
	abort()
	<-done
}

// A call that its client abandons counts as a failure if the client has waited for the upstream for at least abandoned_after.
func TestAbandonedCallFailsAfterAbandonedAfter(t *testing.T) {
	const partialResponse = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nx"
	for name, c := range map[string]struct {
		head, keys string // head is what the upstream sends before it hangs
		body       string // "" is none
		waits      bool   // the client waits for longer than abandoned_after and slow_call_duration
		failed     bool
		slow       float64 // the calls that the slow call ratio counts as slow
	}{
		"abandoned_after not set":                    {keys: "fail_max: 1", waits: true},
		"before abandoned_after":                     {keys: "fail_max: 1, abandoned_after: 1h"},
		"after abandoned_after":                      {keys: "fail_max: 1, abandoned_after: 50ms", waits: true, failed: true},
		"after abandoned_after, with a body":         {keys: "fail_max: 1, abandoned_after: 50ms", body: "hello", waits: true, failed: true},
		"after abandoned_after, response has begun":  {head: partialResponse, keys: "fail_max: 1, abandoned_after: 50ms", waits: true},
		"after slow_call_duration":                   {keys: "fail_max: 0, slow_call_ratio: 1, min_requests: 1, slow_call_duration: 50ms", waits: true, slow: 1},
		"before slow_call_duration":                  {keys: "fail_max: 0, slow_call_ratio: 1, min_requests: 1, slow_call_duration: 1h"},
		"after slow_call_duration, too few requests": {keys: "fail_max: 1, slow_call_ratio: 1, min_requests: 2, slow_call_duration: 50ms", waits: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, arrived := hangingUpstream(t, c.head)
			server, address, recorded := start(t, routeConfig(url, "timeout: 60s", "breaker: {"+c.keys+"}"))
			wait := time.Duration(0)
			if c.waits {
				wait = 100 * time.Millisecond
			}
			abandonRequest(t, address, c.body, arrived, wait)
			o, opened := recorded.next(t), c.failed || c.slow > 0
			if failed := o.Failure != nil && o.Failure.Type == events.ErrorAbandoned; failed != c.failed || !c.failed && o.Result != events.ResultCancelled {
				t.Errorf("%+v %+v", o, o.Failure)
			}
			if s := server.Breaker("svc").Status(); (s.State == events.Open) != opened || c.slow > 0 && s.Cause != events.CauseSlowCallRatio {
				t.Errorf("%+v", s)
			}
		})
	}
}

// An abandoned request is stored if a strategy does that and its body is complete. No other strategy responds to a client that
// has left, or is counted.
func TestAbandonedRequestIsStored(t *testing.T) {
	for try, want := range map[string]string{"static, test-storer": "test-storer", "static": "", "test-body-recorder": ""} {
		for _, body := range []string{"", "hello"} {
			url, arrived := hangingUpstream(t, "")
			_, calls := withBodyRecorder(t, 100, "")
			options := fmt.Sprintf("{name: %q, limit: 100}", t.Name())
			_, address, recorded := start(t, "fallbacks: {svc: {try: ["+try+"], static: {body: none}, test-storer: "+options+", test-body-recorder: "+options+"}}\n"+
				routeConfig(url, "timeout: 60s", "breaker: {fail_max: 1, abandoned_after: 50ms}"))
			abandonRequest(t, address, body, arrived, 100*time.Millisecond)
			o := recorded.next(t)
			if o.Failure == nil || o.Failure.Type != events.ErrorAbandoned || o.Strategy != want {
				t.Errorf("%s: %+v, %+v", try, o, o.Failure)
			}
			if want == "" {
				if n := len(calls); n > 0 {
					t.Errorf("%s: %d calls", try, n)
				}
				continue
			}
			if call := nextStrategyCall(t, calls); call.reason != events.ReasonReset || call.body != body || call.err != nil || call.contextErr != nil {
				t.Errorf("%s: %+v", try, call)
			}
		}
	}
}

// A request that its client aborts while it still sends the body counts neither as success nor as failure of the upstream.
func TestClientAbortDuringUploadRecordsNoFailure(t *testing.T) {
	arrived := make(chan struct{}, 1)
	url := rawUpstream(t, func(_ int, _ net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		arrived <- struct{}{}
		_, _ = io.Copy(io.Discard, r)
	})
	server, address, recorded := start(t, routeConfig(url, "timeout: 60s", "breaker: {fail_max: 1, abandoned_after: 50ms}"))
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, "POST /svc HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nx")
	<-arrived
	<-time.After(100 * time.Millisecond)
	_ = c.Close()
	if o := recorded.next(t); o.Result != events.ResultCancelled || server.Breaker("svc").State() != events.Closed {
		t.Errorf("%+v, the breaker is %v", o, server.Breaker("svc").State())
	}
}
