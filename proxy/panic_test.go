package proxy_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"cbproxy/internal/events"
)

// panickingContext panics when its end is waited for, which a request does after the breaker has admitted it.
type panickingContext struct{ context.Context }

func (panickingContext) Done() <-chan struct{} { panic("test") }

// TestPanicAfterAdmissionReturnsThePermit checks that a request which panics between its admission and its attempt leaves the
// only permit of a half-open breaker to the next one.
func TestPanicAfterAdmissionReturnsThePermit(t *testing.T) {
	f := newFlakyUpstream(t, 0, nil)
	server, address, _ := start(t, routeConfig(f.URL, "breaker: {half_open_requests: 1}"))
	server.Breaker("svc").Force(events.HalfOpen, 0, "test")
	w := httptest.NewRecorder()
	server.ServeHTTP(w, httptest.NewRequestWithContext(panickingContext{t.Context()}, http.MethodGet, "/svc", nil))
	if w.Code != 502 || f.requests.Load() != 0 {
		t.Fatalf("status %d, %d requests upstream", w.Code, f.requests.Load())
	}
	if res, body := get(t, "http://"+address+"/svc"); res.StatusCode != 200 || server.Breaker("svc").State() != events.Closed {
		t.Errorf("status %d, %q, breaker %v", res.StatusCode, body, server.Breaker("svc").State())
	}
}
