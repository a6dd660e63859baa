package proxy_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
)

// The Content-Length of a response to HEAD, and of one with status 304, is that of another response. It must not make the
// response count as truncated.
func TestResponsesWithoutContentAreComplete(t *testing.T) {
	respond := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000") // longer than the default response_buffer
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
		}
		if r.URL.RawQuery == "flush" { // the HTTP/2 stream ends with a frame of its own
			_ = http.NewResponseController(w).Flush()
		}
	}
	http1 := httptest.NewServer(http.HandlerFunc(respond))
	defer http1.Close()
	for url, keys := range map[string]string{
		http1.URL: "", h2cUpstream(t, respond): "", h2cUpstream(t, respond): "response_buffer: 1MiB", h2cUpstream(t, respond): "retry: {attempts: 2}",
		h2cUpstream(t, respond): "stream_commit: first_byte",
	} {
		server, address, recorded := start(t, routeConfig(url, keys, "breaker: {fail_max: 1}"))
		for _, test := range []struct {
			method, query, ifNoneMatch string
			status                     int
		}{{"GET", "", `"a"`, 304}, {"GET", "?flush", `"a"`, 304}, {"HEAD", "", `"a"`, 304}, {"HEAD", "", "", 200}, {"HEAD", "?flush", "", 200}} {
			r, _ := http.NewRequest(test.method, "http://"+address+"/svc"+test.query, nil)
			if test.ifNoneMatch != "" {
				r.Header.Set("If-None-Match", test.ifNoneMatch)
			}
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if o := recorded.next(t); res.StatusCode != test.status || o.Result != events.ResultSuccess || o.Attempts != 1 {
				t.Errorf("%s, %+v: status %d, %+v", keys, test, res.StatusCode, o)
			}
		}
		if s := server.Breaker("svc").Status(); s.State != events.Closed || s.LastFailure != nil {
			t.Errorf("%s: breaker %+v", keys, s)
		}
	}
}

// The same holds for the response to a delivery or a probe.
func TestDeliveriesAndProbesWithoutContentSucceed(t *testing.T) {
	url := h2cUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		w.WriteHeader(http.StatusNotModified)
	})
	server, _, _ := start(t, routeConfig(url, "breaker: {fail_max: 1, recovery_timeout: 60s, probe: {path: /, interval: 20ms, timeout: 10s}}"))
	if d, err := server.Deliver(t.Context(), delivery("hello")); err != nil || d.Status != http.StatusNotModified {
		t.Errorf("delivery: %+v, %v", d, err)
	}
	b := server.Breaker("svc")
	b.Force(events.HalfOpen, 0, "test")
	waitForProbeResult(t, b)
	if s := b.Status(); s.State != events.Closed || s.LastFailure != nil {
		t.Errorf("breaker %+v", s)
	}
}

// waitForProbeResult waits until a half-open breaker is open or closed.
func waitForProbeResult(t *testing.T, b *breaker.Breaker) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); b.State() == events.HalfOpen; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no probe was sent")
		}
	}
}
