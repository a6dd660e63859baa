package admin_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/admin"
	"cbproxy/internal/events"
)

func TestBaselineResponse(t *testing.T) {
	f := &fakeBackend{baseline: events.Baseline{
		Mode: "shadow", Demoted: true, FailureRatio: 0.02, Calls: 12, Warm: true, Evidence: 0.5, Explanation: "text",
		Openings: events.AdaptiveOpenings{Earlier: 1, OnlyAdaptive: 2, Refuted: 3},
		Latency:  events.Latency{P50: 0.05, P95: 0.0123456789, P99: 1.5}, SlowCallDuration: 1500 * time.Millisecond,
	}}
	for _, want := range []string{
		`{"failure_ratio":0.02,"calls":12,"latency":{"p50":0.05,"p95":0.012346,"p99":1.5},"warm":true,"evidence":0.5,"slow_call_duration":1.5,` +
			`"mode":"shadow","demoted":true,"openings":{"earlier":1,"only_adaptive":2,"refuted":3},"explanation":"text"}`,
		`{"failure_ratio":null,"calls":0,"latency":{"p50":null,"p95":null,"p99":null},"warm":false,"evidence":0,"slow_call_duration":5,` +
			`"mode":"off","demoted":false,"openings":{"earlier":0,"only_adaptive":0,"refuted":0},"explanation":""}`,
	} {
		h, _ := handler(f)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "http://127.0.0.1/api/v1/circuit-breakers/svc/baseline", nil))
		if got := strings.TrimSpace(w.Body.String()); w.Code != http.StatusOK || got != want {
			t.Errorf("%d %s, want %s", w.Code, got, want)
		}
		f.baseline = events.Baseline{Mode: "off", SlowCallDuration: 5 * time.Second}
	}
}

func TestResetBaseline(t *testing.T) {
	for _, test := range []struct {
		name, query, body string
		err               error
		status            int
		reason            string
	}{
		{"no body", "", "", nil, 200, ""},
		{"reason in the query", "?reason=why", "", nil, 200, "why"},
		{"reason in the body", "", `{"reason":"why"}`, nil, 200, "why"},
		{"not stored", "", "", &admin.NotPersistedError{Err: errors.New("disk full")}, 202, ""},
		{"unknown key", "", `{"state":"open"}`, nil, 400, ""},
		{"reason too long", "?reason=" + strings.Repeat("x", 1001), "", nil, 400, ""},
	} {
		f := &fakeBackend{token: "secret", resetErr: test.err}
		h, bus := handler(f)
		sub := bus.Subscribe(10)
		r := httptest.NewRequest("POST", "http://127.0.0.1/api/v1/circuit-breakers/svc/baseline/reset"+test.query, strings.NewReader(test.body))
		r.Header.Set("Authorization", "Bearer secret")
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != test.status || (w.Code < 300) != (f.baseline.Mode == "enforce") {
			t.Errorf("%s: %d %s, %+v", test.name, w.Code, w.Body, f.baseline)
		}
		if test.status >= 300 {
			continue
		}
		e, _, err := sub.Next(t.Context())
		if a, ok := e.(events.AdminAction); err != nil || !ok || a.Action != "reset-baseline" || a.Service != "svc" || a.Reason != test.reason {
			t.Errorf("%s: %+v, %v", test.name, e, err)
		}
	}
}
