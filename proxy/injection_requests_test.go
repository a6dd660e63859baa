package proxy_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/service"
)

// Deliveries of queued requests are hit by faults, those with match only if the stored header has the field.
func TestDeliveriesAreHitByFaults(t *testing.T) {
	for name, c := range map[string]struct {
		fault   events.Fault
		header  string
		status  int
		reason  events.Reason
		kind    events.ErrorType
		reached int32
	}{
		"abort": {events.Fault{Kind: events.FaultAbort}, "", 503, "", events.ErrorStatus, 0},
		"abort with a status that the queue would not repeat": {events.Fault{Kind: events.FaultAbort, Status: 204}, "", 200, "", "", 1},
		"reset":       {events.Fault{Kind: events.FaultReset}, "", 0, events.ReasonReset, events.ErrorReset, 0},
		"long delay":  {events.Fault{Kind: events.FaultDelay, Delay: events.Duration(time.Hour)}, "", 0, events.ReasonTimeout, events.ErrorTimeout, 0},
		"short delay": {events.Fault{Kind: events.FaultDelay, Delay: 1}, "", 200, "", "", 1},
		"cut":         {events.Fault{Kind: events.FaultCut}, "", 200, "", events.ErrorTruncated, 1},
		"no match":    {events.Fault{Kind: events.FaultReset, Match: &events.FaultMatch{Header: "X-Test", Value: "1"}}, "2", 200, "", "", 1},
		"match":       {events.Fault{Kind: events.FaultReset, Match: &events.FaultMatch{Header: "X-Test", Value: "1"}}, "1", 0, events.ReasonReset, events.ErrorReset, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := &faultUpstream{size: 10}
			upstream := httptest.NewServer(u)
			t.Cleanup(upstream.Close)
			timeout := "timeout: 20s"
			if name == "long delay" {
				timeout = "timeout: 100ms"
			}
			server, _, _ := start(t, routeConfig(upstream.URL, timeout, "breaker: {fail_max: 1, recovery_timeout: 1h}"))
			f := inject(t, server, c.fault)
			d := delivery("hello")
			d.Header.Set("X-Test", c.header)
			response, err := server.Deliver(t.Context(), d)
			var failed *service.DeliveryError
			if response.Status != c.status || (err == nil) != (c.status != 0) || err != nil && (!errors.As(err, &failed) || failed.Reason != c.reason || failed.Unsendable) {
				t.Errorf("%+v, %v", response, err)
			}
			if want := "injected fault " + f.ID + " (abort): status 503"; (response.Detail == want) != (name == "abort") {
				t.Errorf("detail %q", response.Detail)
			}
			s := server.Breaker("svc").Status()
			if last := s.LastFailure; (s.State == events.Open) != (c.kind != "") || c.kind != "" && (last.Type != c.kind || !strings.Contains(last.Detail, "injected fault "+f.ID)) {
				t.Errorf("%+v, %+v", s, last)
			}
			if n := u.requests.Load(); n != c.reached {
				t.Errorf("%d requests reached the upstream", n)
			}
		})
	}
}

// A probe does not close a breaker during the rehearsal of a failure, unless the faults only hit some clients' requests.
func TestProbesAreHitByFaults(t *testing.T) {
	for _, f := range []events.Fault{
		{Kind: events.FaultAbort}, {Kind: events.FaultReset}, {Kind: events.FaultDelay, Delay: events.Duration(time.Hour)}, {Kind: events.FaultAbort, Status: 404},
	} {
		t.Run(fmt.Sprint(f.Kind, f.Status), func(t *testing.T) {
			t.Parallel()
			u := newProbedUpstream(t)
			server, _, _ := start(t, probedRouteConfig(u.URL, "recovery_timeout: 0.05, half_open_requests: 1"))
			matching := f
			matching.Match = &events.FaultMatch{Header: "X-Test"}
			inject(t, server, matching)
			started := inject(t, server, f)
			b := server.Breaker("svc")
			b.Force(events.HalfOpen, 0, "test")
			for b.Status().Transitions[events.Open] < 2 {
				time.Sleep(time.Millisecond)
			}
			if last := b.Status().LastFailure; last == nil || !strings.Contains(last.Detail, "probe: injected fault "+started.ID) {
				t.Errorf("%+v", last)
			}
			if n := u.probes.Load(); n != 0 {
				t.Errorf("%d probes reached the upstream", n)
			}
			if _, err := server.Faults("svc").End(started.ID, ""); err != nil {
				t.Fatal(err)
			}
			waitForState(t, b, events.Closed)
		})
	}
}

// An abort leaves the client's connection usable if the upload is short, and closes it otherwise, so that the rest of the upload is
// never taken for a request.
func TestUploadsToAbortedRequests(t *testing.T) {
	const next = "GET /svc/next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	for name, c := range map[string]struct {
		head, body string
		reused     bool
	}{
		"short":        {"Content-Length: 5\r\n", "hello", true},
		"chunked":      {"Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n", false},
		"long":         {"Content-Length: 300000\r\n", strings.Repeat("GET /svc/x HTTP/1.1\r\n", 300000/21+1)[:300000], false},
		"expectation":  {"Content-Length: 5\r\nExpect: 100-continue\r\n", "", false},
		"long, a part": {"Content-Length: 100000\r\n", "GET /svc/x HTTP/1.1\r\nHost: x\r\n\r\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := httptest.NewServer(new(faultUpstream))
			t.Cleanup(u.Close)
			server, address, recorded := start(t, routeConfig(u.URL, "breaker: {fail_max: 100}"))
			inject(t, server, events.Fault{Kind: events.FaultAbort})
			conn, r := dial(t, address)
			fmt.Fprint(conn, "POST /svc HTTP/1.1\r\nHost: x\r\n"+c.head+"\r\n"+c.body)
			res := nextResponse(t, r)
			if res.StatusCode != 503 || res.Close == c.reused {
				t.Errorf("status %d, close %t", res.StatusCode, res.Close)
			}
			recorded.next(t)
			if res.Close {
				return
			}
			fmt.Fprint(conn, next)
			if res := nextResponse(t, r); res.StatusCode != 503 {
				t.Errorf("status %d", res.StatusCode)
			}
			if o := recorded.next(t); o.Failure == nil || o.Failure.Type != events.ErrorStatus {
				t.Errorf("%+v", o)
			}
		})
	}
}

// An upload over HTTP/2 that nobody reads does not keep other requests on its connection from being served.
func TestLargeUploadOverHTTP2ToAbortedRequest(t *testing.T) {
	u := httptest.NewServer(new(faultUpstream))
	t.Cleanup(u.Close)
	server, address, _ := start(t, routeConfig(u.URL, "breaker: {fail_max: 1000}"))
	f := inject(t, server, events.Fault{Kind: events.FaultAbort})
	client := h2cClient(t)
	for range 40 { // more than the flow-control window of the connection
		res, err := client.Post("http://"+address+"/svc", "text/plain", strings.NewReader(strings.Repeat("x", 1<<20)))
		if err != nil {
			t.Fatal(err)
		}
		if _ = res.Body.Close(); res.StatusCode != 503 {
			t.Errorf("status %d", res.StatusCode)
		}
	}
	if _, err := server.Faults("svc").End(f.ID, ""); err != nil {
		t.Fatal(err)
	}
	res, err := client.Post("http://"+address+"/svc", "text/plain", strings.NewReader(strings.Repeat("x", 1<<20)))
	if err != nil {
		t.Fatal(err)
	}
	if _ = res.Body.Close(); res.StatusCode != http.StatusOK {
		t.Errorf("status %d", res.StatusCode)
	}
}
