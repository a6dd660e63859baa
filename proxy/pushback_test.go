package proxy_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"cbproxy/internal/events"
)

// A gRPC call is repeated if the response has no messages and asks for a retry, and otherwise not.
func TestGRPCRetryPushback(t *testing.T) {
	inOneMode(t)
	const anyCall = "retry: {attempts: 3, backoff: 1ms, budget: 1, methods: [POST]}"
	trailersOnly := func(status string, pushback ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", status)
			w.Header()["Grpc-Retry-Pushback-Ms"] = pushback
		}
	}
	inTrailers := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/grpc")
		_, _ = io.WriteString(w, "\x00\x00\x00\x00\x00")
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "14")
		w.Header().Set(http.TrailerPrefix+"Grpc-Retry-Pushback-Ms", "0")
	}
	for name, c := range map[string]struct {
		fail     http.HandlerFunc
		retry    string
		attempts int
		retried  bool
	}{
		"no pushback":                 {trailersOnly("14"), anyCall, 1, false},
		"at once":                     {trailersOnly("14", "0"), anyCall, 2, true},
		"after 50 ms":                 {trailersOnly("14", "50"), anyCall, 2, true},
		"negative":                    {trailersOnly("14", "-1"), anyCall, 1, false},
		"no number":                   {trailersOnly("14", "abc"), anyCall, 1, false},
		"empty":                       {trailersOnly("14", ""), anyCall, 1, false},
		"twice":                       {trailersOnly("14", "0", "0"), anyCall, 1, false},
		"after the time limit":        {trailersOnly("14", "30000"), anyCall, 1, false},
		"not a failure":               {trailersOnly("5", "0"), anyCall, 1, false},
		"after a message":             {inTrailers, anyCall, 1, false},
		"method not listed":           {trailersOnly("14", "0"), "retry: {attempts: 3, backoff: 1ms, budget: 1}", 1, false},
		"no retries":                  {trailersOnly("14", "0"), "retry: {attempts: 0}", 1, false},
		"no budget":                   {trailersOnly("14", "0"), "retry: {attempts: 3, budget: 0, methods: [POST]}", 1, false},
		"HTTP status and no pushback": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, anyCall, 2, true},
	} {
		for _, endpoints := range []int{1, 2} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				requests := make(chan struct{}, 10)
				handler := func(w http.ResponseWriter, r *http.Request) {
					if requests <- struct{}{}; len(requests) == 1 {
						c.fail(w, r)
						return
					}
					trailersOnly("0")(w, r)
				}
				urls := make([]string, endpoints)
				for i := range urls {
					urls[i] = h2cUpstream(t, handler)
				}
				server, address, recorded := start(t, routeConfig("["+strings.Join(urls, ", ")+"]", c.retry, "timeout: 20s", "breaker: {fail_max: 100}"))
				res := callGRPC(t, address)
				o := recorded.next(t)
				if o.Attempts != c.attempts || len(requests) != c.attempts {
					t.Errorf("%d attempts, %d requests; want %d", o.Attempts, len(requests), c.attempts)
				}
				if got := res.Header.Get("Grpc-Status"); c.retried && (got != "0" || o.Result != events.ResultSuccess) {
					t.Errorf("status %s, %+v", got, o)
				}
				failures := 0
				if o.Failure != nil {
					failures = 1
				}
				wantQuiet(t, server, failures+boolToInt(c.retried && endpoints > 1))
				if s := server.Breaker("svc").Status(); s.ConsecutiveFailures != failures {
					t.Errorf("the breaker has %d failures, want %d", s.ConsecutiveFailures, failures)
				}
			})
		}
	}
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
