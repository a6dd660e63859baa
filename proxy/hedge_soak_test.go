package proxy_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// unreliable answers a request in one of several ways, at random.
func unreliable(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	flush := func() { _ = http.NewResponseController(w).Flush() }
	switch rand.IntN(20) {
	case 0:
		panic(http.ErrAbortHandler)
	case 1, 2:
		w.WriteHeader(503)
	case 3:
		w.WriteHeader(500)
	case 4:
		<-r.Context().Done()
		return
	case 5: // hangs in its body
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "x")
		flush()
		<-r.Context().Done()
		return
	case 6: // ends early
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "x")
		flush()
		panic(http.ErrAbortHandler)
	case 7:
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
	case 8: // a stream
		w.Header().Set("Content-Type", "text/event-stream")
		for range 5 {
			_, _ = io.WriteString(w, "data: x\n\n")
			flush()
			time.Sleep(5 * time.Millisecond)
		}
		return
	case 9, 10, 11:
		time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
	}
	_, _ = w.Write(body)
}

// With upstreams that fail in all ways, and with retries, hedges and time limits, nothing is left over: no attempt in flight, no permit of
// a half-open breaker.
func TestUnreliableUpstreamsLeaveNothingBehind(t *testing.T) {
	inOneMode(t)
	var reliable atomic.Bool
	handler := func(_ int, w http.ResponseWriter, r *http.Request) {
		if !reliable.Load() {
			unreliable(w, r)
		}
	}
	h2c := h2cUpstream(t, func(w http.ResponseWriter, r *http.Request) { handler(0, w, r) })
	upstreams := strings.TrimSuffix(numberedUpstreams(t, 2, handler), "]") + ", " + h2c + "]"
	server, address, recorded, tracer := startTraced(t, routeConfig(upstreams, "timeout: 2s", "attempt_timeout: 100ms", "hedge: {after: 5ms, max_ratio: 1}",
		"retry: {attempts: 2, backoff: 1ms, max_backoff: 5ms, budget: 1, methods: [GET, PUT]}", "max_in_flight: 30",
		"balance: {eject: {fail_max: 3, time: 20ms}}",
		"breaker: {fail_max: 4, recovery_timeout: 20ms, half_open_requests: 2, recovery_backoff: {jitter: 0}}"))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 40}, Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	var clients sync.WaitGroup
	const each = 40
	for range 20 {
		clients.Go(func() {
			for range each {
				ctx, cancel := context.WithCancel(t.Context())
				if rand.IntN(10) == 0 {
					time.AfterFunc(time.Duration(rand.IntN(30))*time.Millisecond, cancel)
				}
				method, body := "GET", io.Reader(nil)
				switch rand.IntN(4) {
				case 0:
					method, body = "PUT", strings.NewReader(strings.Repeat("x", rand.IntN(30_000)))
				case 1:
					method, body = "POST", strings.NewReader("x")
				case 2:
					method, body = "PUT", io.MultiReader(strings.NewReader("x"))
				}
				r, _ := http.NewRequestWithContext(ctx, method, "http://"+address+"/svc", body)
				if res, err := client.Do(r); err == nil {
					_, _ = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
				}
				cancel()
			}
		})
	}
	clients.Wait()
	recorded.waitInFlight(t, 0)
	wantNoneInFlight(t, server)
	reliable.Store(true)
	for successes, limit := 0, time.Now().Add(20*time.Second); successes < 5 || server.Breaker("svc").State() != events.Closed; {
		if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode == 200 {
			successes++
		}
		if time.Now().After(limit) {
			t.Fatalf("the breaker is %v: %+v", server.Breaker("svc").State(), server.Breaker("svc").Status())
		}
	}
	recorded.mu.Lock()
	defer recorded.mu.Unlock()
	attempts, hedged := 0, 0
	for _, o := range recorded.outcomes {
		attempts += o.Attempts
		if o.Hedged {
			hedged++
		}
		if o.Result == events.ResultSuccess && o.Failure != nil || o.Result == events.ResultFailure && o.Failure == nil {
			t.Errorf("%+v", o)
		}
	}
	if len(recorded.hedges) != hedged || hedged == 0 {
		t.Errorf("%d hedges were observed, and %d requests hedged", len(recorded.hedges), hedged)
	}
	if len(recorded.local) > 0 {
		t.Errorf("failures of this machine: %v", recorded.local)
	}
	for _, span := range tracer.ended(t, attempts) {
		if span.ends != 1 {
			t.Errorf("the span %+v has ended %d times", span, span.ends)
		}
	}
	t.Logf("%d requests, %d attempts, %d hedges, failures %d", len(recorded.outcomes), attempts, hedged, len(recorded.failures))
}
