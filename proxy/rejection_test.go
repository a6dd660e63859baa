package proxy_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// settableUpstream responds with the status and the Retry-After field that are set.
type settableUpstream struct {
	*httptest.Server
	status     atomic.Int32
	retryAfter atomic.Value // a string, "" is none
	requests   atomic.Int32
}

func newSettableUpstream(t *testing.T) *settableUpstream {
	u := new(settableUpstream)
	u.set(http.StatusOK, "")
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		u.requests.Add(1)
		if v := u.retryAfter.Load().(string); v != "" {
			w.Header().Set("Retry-After", v)
		}
		w.WriteHeader(int(u.status.Load()))
	}))
	t.Cleanup(u.Close)
	return u
}

func (u *settableUpstream) set(status int, retryAfter string) {
	u.retryAfter.Store(retryAfter)
	u.status.Store(int32(status))
}

// While the algorithm throttle rejects a share of the requests, these get the fallback or 503, and the state stays closed. Requests
// that the upstream answers show its response.
func TestThrottledRequestsGetTheFallback(t *testing.T) {
	for name, fallback := range map[string]string{"with a fallback": "fallbacks: {svc: {static: {status: 203, body: {a: 1}}}}\n", "without": ""} {
		t.Run(name, func(t *testing.T) {
			u := newSettableUpstream(t)
			u.set(http.StatusInternalServerError, "")
			server, address, recorded := start(t, routeConfig(u.URL, "breaker: {algorithm: throttle, fail_max: 0, throttle: {max_rejection: 0.9}}")+fallback)
			var answered, throttled int
			for answered+throttled < 200 {
				res, body := get(t, "http://"+address+"/svc")
				if res.Header.Get("X-Circuit-Breaker-State") != "closed" {
					t.Fatalf("%v", res.Header)
				}
				o := recorded.next(t)
				switch {
				case res.StatusCode == http.StatusInternalServerError && o.Result == events.ResultFailure:
					answered++
				case fallback != "" && res.StatusCode == 203 && res.Header.Get("X-Fallback-Reason") == "throttled" && o.Result == events.ResultRejected && o.Reason == events.ReasonThrottled,
					fallback == "" && res.StatusCode == http.StatusServiceUnavailable && strings.Contains(body, "rejects a share of the requests") &&
						o.Result == events.ResultRejected && o.Reason == events.ReasonThrottled && o.Strategy == "":
					throttled++
				default:
					t.Fatalf("status %d, %v, %+v", res.StatusCode, res.Header, o)
				}
			}
			if answered < 10 || throttled < 100 || int(u.requests.Load()) != answered {
				t.Errorf("%d requests were answered by the upstream, which got %d, %d were throttled", answered, u.requests.Load(), throttled)
			}
			if s := server.Breaker("svc").Status(); s.RejectionRatio < 0.5 || s.RejectionRatio > 0.9 || s.Transitions[events.Open] > 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// After the breaker has closed, requests that the ramp does not let through get the fallback with the reason recovering, or 503.
func TestRecoveringBreakerLetsAGrowingShareThrough(t *testing.T) {
	for name, fallback := range map[string]string{"with a fallback": "fallbacks: {svc: {static: {status: 203, body: {a: 1}}}}\n", "without": ""} {
		t.Run(name, func(t *testing.T) {
			u := newSettableUpstream(t)
			server, address, recorded := start(t, routeConfig(u.URL, "breaker: {recovery_ramp: 1h}")+fallback)
			if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 200 {
				t.Fatalf("a new breaker: status %d", res.StatusCode)
			}
			recorded.next(t)
			server.Breaker("svc").Force(events.HalfOpen, 0, "test")
			if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 200 {
				t.Fatalf("the probe: status %d", res.StatusCode)
			}
			recorded.next(t)
			var let int
			for range 300 {
				res, body := get(t, "http://"+address+"/svc")
				o := recorded.next(t)
				recovering := o.Result == events.ResultRejected && o.Reason == events.ReasonRecovering && res.Header.Get("X-Circuit-Breaker-State") == "closed"
				switch {
				case res.StatusCode == 200 && o.Result == events.ResultSuccess && o.Reason == "":
					let++
				case recovering && fallback != "" && res.StatusCode == 203 && res.Header.Get("X-Fallback-Reason") == "recovering",
					recovering && fallback == "" && res.StatusCode == 503 && strings.Contains(body, "the service is recovering"):
					continue
				default:
					t.Fatalf("status %d, %v, %+v", res.StatusCode, res.Header, o)
				}
			}
			if let < 5 || let > 90 { // 30 are expected; neither is possible by chance
				t.Errorf("%d of 300 requests were let through at a share of a tenth", let)
			}
			if s := server.Breaker("svc").Status(); s.AdmittedRatio != 0.1 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// Responses that ask for no request before a time pass through, are no failures and open the breaker until then.
func TestRetryAfterOpensTheBreaker(t *testing.T) {
	u := newSettableUpstream(t)
	server, address, recorded := start(t, routeConfig(u.URL, "breaker: {fail_max: 1, retry_after: {after: 2, max: 1h}}")+
		"fallbacks: {svc: {when: [open, status], static: {status: 203, body: {a: 1}}}}\n")
	request := func(want int, result events.Result) {
		t.Helper()
		res, _ := get(t, "http://"+address+"/svc")
		if o := recorded.next(t); res.StatusCode != want || o.Result != result || o.Failure != nil {
			t.Fatalf("status %d, want %d; %+v", res.StatusCode, want, o)
		}
	}
	u.set(http.StatusServiceUnavailable, "600")
	request(http.StatusServiceUnavailable, events.ResultSuccess)
	u.set(http.StatusOK, "600") // ends the row
	request(http.StatusOK, events.ResultSuccess)
	u.set(http.StatusTooManyRequests, time.Now().Add(20*time.Minute).UTC().Format(http.TimeFormat))
	request(http.StatusTooManyRequests, events.ResultSuccess)
	u.set(http.StatusServiceUnavailable, "600")
	request(http.StatusServiceUnavailable, events.ResultSuccess)
	request(203, events.ResultRejected)
	s := server.Breaker("svc").Status()
	if left := time.Until(s.RetryAt); s.State != events.Open || s.Cause != events.CauseRetryAfter || left < 15*time.Minute || left > 20*time.Minute {
		t.Errorf("%+v, for %v", s, left)
	}
}

// Without a Retry-After, or with one that names no later time, the status counts as usual.
func TestStatusWithoutRetryAfterIsAFailure(t *testing.T) {
	for _, value := range []string{"", "0", "soon", "-5", "Thu, 26 Nov 2020 12:00:00 GMT"} {
		t.Run(value, func(t *testing.T) {
			u := newSettableUpstream(t)
			u.set(http.StatusServiceUnavailable, value)
			_, address, recorded := start(t, routeConfig(u.URL, "breaker: {retry_after: {after: 1}}"))
			get(t, "http://"+address+"/svc")
			if o := recorded.next(t); o.Result != events.ResultFailure {
				t.Errorf("%+v", o)
			}
		})
	}
}

// Ignored statuses are neither failures nor successes: a row of failures continues after them.
func TestIgnoredStatusesCountNeitherWay(t *testing.T) {
	u := newSettableUpstream(t)
	server, address, recorded := start(t, routeConfig(u.URL, "breaker: {fail_max: 2, ignore_statuses: [500-501, 404]}"))
	for _, c := range []struct {
		status int
		result events.Result
		open   bool
	}{
		{500, events.ResultSuccess, false}, {501, events.ResultSuccess, false}, {502, events.ResultFailure, false},
		{404, events.ResultSuccess, false}, {500, events.ResultSuccess, false}, {503, events.ResultFailure, true},
	} {
		u.set(c.status, "")
		res, _ := get(t, "http://"+address+"/svc")
		if o := recorded.next(t); res.StatusCode != c.status || o.Result != c.result {
			t.Errorf("status %d, want %d; %+v", res.StatusCode, c.status, o)
		}
		if open := server.Breaker("svc").State() == events.Open; open != c.open {
			t.Errorf("after status %d the breaker is open: %v", c.status, open)
		}
	}
}
