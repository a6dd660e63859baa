package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"cbproxy/internal/events"
)

// A response for which failure_when is true is a failure. It passes through unless when of the fallback has status. Bodies that are not
// read whole are nil for json.
func TestFailureWhenMakesResponsesFailures(t *testing.T) {
	const overloaded = `{"error": {"code": "overloaded"}, "load": 0.9}`
	for name, c := range map[string]struct {
		expression string
		handler    http.HandlerFunc
		failed     bool
		errors     uint64
	}{
		"a header field": {`header('x-error') != ''`, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Error", "1") }, true, 0},
		"no such field":  {`header('x-error') != ''`, func(http.ResponseWriter, *http.Request) {}, false, 0},
		"a status":       {`status == 202`, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(202) }, true, 0},
		"a whole body":   {`json('error.code') == 'overloaded'`, respondWithBody(overloaded, len(overloaded)), true, 0},
		"a good body":    {`json('error.code') == 'overloaded'`, respondWithBody(`{"error": null}`, 15), false, 0},
		"another format": {`json('error.code') == 'overloaded'`, respondWithBody("text", 4), false, 0},
		"a number":       {`json('load') > 0.8`, respondWithBody(overloaded, len(overloaded)), true, 0},
		"a stream":       {`json('error.code') == 'overloaded'`, respondWithBody(overloaded, -1), false, 0},
		"an error":       {`json('load') > 0.8`, respondWithBody(`{"load": "high"}`, 16), false, 1},
		"and a status":   {`status == 200 && json('load') > 0.8`, respondWithBody(overloaded, len(overloaded)), true, 0},
	} {
		for _, when := range []string{"open", "open, status"} {
			t.Run(name+", when "+when, func(t *testing.T) {
				upstream := httptest.NewServer(c.handler)
				defer upstream.Close()
				server, address, recorded := start(t, routeConfig(upstream.URL, fmt.Sprintf("breaker: {fail_max: 2, failure_when: %q}", c.expression))+
					"fallbacks: {svc: {when: ["+when+"], static: {status: 203, body: {a: 1}}}}\n")
				res, body := get(t, "http://"+address+"/svc")
				replaced := c.failed && when != "open"
				if (res.StatusCode == 203) != replaced || replaced && res.Header.Get("X-Fallback-Reason") != "status" {
					t.Errorf("status %d, %v, %s", res.StatusCode, res.Header, body)
				}
				o := recorded.next(t)
				if failed := o.Failure != nil && o.Failure.Type == events.ErrorExpression && o.Result == events.ResultFailure; failed != c.failed || !failed && o.Result != events.ResultSuccess {
					t.Errorf("%+v, %+v", o, o.Failure)
				}
				if s := server.Breaker("svc").Status(); (s.ConsecutiveFailures == 1) != c.failed || s.ExpressionErrors != c.errors {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

// failure_when also decides whether the response to a delivery is a failure. The response is returned nevertheless: its status shows that
// the request has arrived.
func TestFailureWhenMakesDeliveriesFailures(t *testing.T) {
	const overloaded = `{"error": {"code": "overloaded"}}`
	for name, c := range map[string]struct {
		expression string
		handler    http.HandlerFunc
		want       events.State
		errors     uint64
	}{
		"a header field": {`header('x-error') != ''`, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Error", "1") }, events.Open, 0},
		"no such field":  {`header('x-error') != ''`, func(http.ResponseWriter, *http.Request) {}, events.Closed, 0},
		"a whole body":   {`json('error.code') == 'overloaded'`, respondWithBody(overloaded, len(overloaded)), events.Open, 0},
		"a stream":       {`json('error.code') == 'overloaded'`, respondWithBody(overloaded, -1), events.Closed, 0},
		"an error":       {`json('error.code') > 1`, respondWithBody(overloaded, len(overloaded)), events.Closed, 1},
	} {
		t.Run(name, func(t *testing.T) {
			upstream := httptest.NewServer(c.handler)
			defer upstream.Close()
			server, _, _ := start(t, routeConfig(upstream.URL, fmt.Sprintf("breaker: {fail_max: 1, recovery_timeout: 1h, failure_when: %q}", c.expression)))
			server.Breaker("svc").Force(events.HalfOpen, 0, "test")
			if response, err := server.Deliver(t.Context(), delivery("x")); err != nil || response.Status != 200 {
				t.Errorf("%+v, %v", response, err)
			}
			s := server.Breaker("svc").Status()
			if f := s.LastFailure; s.State != c.want || s.ExpressionErrors != c.errors || (f != nil) != (c.want == events.Open) ||
				f != nil && (f.Type != events.ErrorExpression || f.Detail != "delivery: failure_when is true") {
				t.Errorf("%+v, %+v", s, f)
			}
		})
	}
}

// respondWithBody responds with a body of a known length, or as a stream if length is negative.
func respondWithBody(body string, length int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if length >= 0 {
			w.Header().Set("Content-Length", fmt.Sprint(length))
		}
		_, _ = io.WriteString(w, body)
		if length < 0 {
			w.(http.Flusher).Flush()
		}
	}
}
