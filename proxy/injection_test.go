package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/events"
	"cbproxy/proxy"
)

// inject injects a fault into the requests of svc, for an hour, and returns it.
func inject(t testing.TB, server *proxy.Server, f events.Fault) events.Fault {
	t.Helper()
	if f.Share == 0 {
		f.Share = 1
	}
	if f.Kind == events.FaultAbort && f.Status == 0 {
		f.Status = 503
	}
	f.Duration = events.Duration(time.Hour)
	started, err := server.Faults("svc").Start(f)
	if err != nil {
		t.Fatal(err)
	}
	return started
}

// injected returns how many faults of a kind have been injected into the requests of svc.
func injected(server *proxy.Server, kind events.FaultKind) uint64 {
	return server.Faults("svc").Status().Injected[kind]
}

// faultUpstream counts the requests that reach it, and answers with a body of a known or unknown length.
type faultUpstream struct {
	requests atomic.Int32
	size     int
	stream   bool
}

func (u *faultUpstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.requests.Add(1)
	_, _ = io.Copy(io.Discard, r.Body)
	body := strings.Repeat("x", u.size)
	if !u.stream {
		w.Header().Set("Content-Length", fmt.Sprint(u.size))
	}
	_, _ = io.WriteString(w, body[:u.size/2])
	if u.stream {
		_ = http.NewResponseController(w).Flush()
	}
	_, _ = io.WriteString(w, body[u.size/2:])
}

// overEachProtocol runs a test with clients and upstreams of HTTP/1.1 and HTTP/2.
func overEachProtocol(t *testing.T, run func(t *testing.T, client *http.Client, upstream func(http.Handler) string)) {
	http1 := func(h http.Handler) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.URL
	}
	http2 := func(h http.Handler) string { return h2cUpstream(t, h.ServeHTTP) }
	for name, upstream := range map[string]func(http.Handler) string{"HTTP/1.1 upstream": http1, "HTTP/2 upstream": http2} {
		t.Run("HTTP/1.1 client, "+name, func(t *testing.T) {
			t.Parallel()
			client := &http.Client{Transport: new(http.Transport), Timeout: 20 * time.Second}
			t.Cleanup(client.CloseIdleConnections)
			run(t, client, upstream)
		})
		t.Run("HTTP/2 client, "+name, func(t *testing.T) {
			t.Parallel()
			run(t, h2cClient(t), upstream)
		})
	}
}

// An injected fault looks to the client, the breaker and the metrics like the failure that it simulates, and its detail names it.
func TestInjectedFaultsCountAsFailures(t *testing.T) {
	const hour = events.Duration(time.Hour)
	for name, c := range map[string]struct {
		fault   events.Fault
		size    int
		stream  bool
		status  int // 0: none
		cut     bool
		kind    events.ErrorType // "": success
		reached int32
		detail  string
	}{
		"abort":                  {events.Fault{Kind: events.FaultAbort}, 10, false, 503, false, events.ErrorStatus, 0, " (abort): status 503"},
		"abort without failure":  {events.Fault{Kind: events.FaultAbort, Status: 404}, 10, false, 404, false, "", 0, ""},
		"reset":                  {events.Fault{Kind: events.FaultReset}, 10, false, 502, false, events.ErrorReset, 0, " (reset): the connection was reset"},
		"long delay":             {events.Fault{Kind: events.FaultDelay, Delay: hour}, 10, false, 504, false, events.ErrorTimeout, 0, " (delay of 1h0m0s): the route's timeout"},
		"short delay":            {events.Fault{Kind: events.FaultDelay, Delay: 1}, 10, false, 200, false, "", 1, ""},
		"cut, read whole":        {events.Fault{Kind: events.FaultCut}, 10, false, 502, false, events.ErrorTruncated, 1, " (cut): the response was cut off"},
		"cut, long response":     {events.Fault{Kind: events.FaultCut}, 1 << 20, false, 200, true, events.ErrorTruncated, 1, " (cut): the response was cut off"},
		"cut, unknown length":    {events.Fault{Kind: events.FaultCut}, 10, true, 200, true, events.ErrorTruncated, 1, " (cut): the response was cut off"},
		"cut, empty response":    {events.Fault{Kind: events.FaultCut}, 0, false, 200, false, "", 1, ""},
		"match of other request": {events.Fault{Kind: events.FaultReset, Match: &events.FaultMatch{Header: "X-Test", Value: "2"}}, 10, false, 200, false, "", 1, ""},
		"match of this request":  {events.Fault{Kind: events.FaultReset, Match: &events.FaultMatch{Header: "X-Test", Value: "1"}}, 10, false, 502, false, events.ErrorReset, 0, "(reset)"},
	} {
		t.Run(name, func(t *testing.T) {
			overEachProtocol(t, func(t *testing.T, client *http.Client, upstream func(http.Handler) string) {
				u := &faultUpstream{size: c.size, stream: c.stream}
				timeout := "timeout: 20s"
				if c.fault.Delay == hour {
					timeout = "timeout: 100ms"
				}
				server, address, recorded := start(t, routeConfig(upstream(u), timeout, "breaker: {fail_max: 1, recovery_timeout: 1h}"))
				f := inject(t, server, c.fault)
				r, _ := http.NewRequest("GET", "http://"+address+"/svc", nil)
				r.Header.Set("X-Test", "1")
				res, err := client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(res.Body)
				if res.StatusCode != c.status || (err != nil) != c.cut || c.cut && len(body) >= c.size && !c.stream {
					t.Errorf("status %d, %d bytes, %v", res.StatusCode, len(body), err)
				}
				o := recorded.next(t)
				if c.kind == "" {
					if o.Result != events.ResultSuccess || o.Failure != nil {
						t.Errorf("%+v, %+v", o, o.Failure)
					}
				} else if o.Result != events.ResultFailure || o.Failure == nil || o.Failure.Type != c.kind ||
					!strings.Contains(o.Failure.Detail, "injected fault "+f.ID) || !strings.Contains(o.Failure.Detail, c.detail) {
					t.Errorf("%+v, %+v", o, o.Failure)
				}
				if state := server.Breaker("svc").State(); (state == events.Open) != (c.kind != "") {
					t.Errorf("breaker %v", state)
				}
				if n := u.requests.Load(); n != c.reached {
					t.Errorf("%d requests reached the upstream", n)
				}
				want := uint64(1)
				if name == "cut, empty response" || name == "match of other request" {
					want = 0
				}
				if n := injected(server, f.Kind); n != want {
					t.Errorf("%d faults were injected, want %d", n, want)
				}
			})
		})
	}
}

func TestGRPCCallsAreHitByFaults(t *testing.T) {
	for name, c := range map[string]struct {
		fault  events.Fault
		status int
		code   string
		kind   events.ErrorType
		cut    bool
	}{
		"abort": {events.Fault{Kind: events.FaultAbort}, 503, "", events.ErrorStatus, false},
		"reset": {events.Fault{Kind: events.FaultReset}, 200, "14", events.ErrorReset, false},
		"delay": {events.Fault{Kind: events.FaultDelay, Delay: events.Duration(time.Hour)}, 200, "14", events.ErrorTimeout, false},
		"cut":   {events.Fault{Kind: events.FaultCut}, 200, "", events.ErrorTruncated, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := h2cUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("Content-Type", "application/grpc")
				_, _ = io.WriteString(w, "\x00\x00\x00\x00\x00")
				w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
			})
			server, address, recorded := start(t, routeConfig(url, "timeout: 100ms"))
			if c.kind != events.ErrorTimeout {
				server, address, recorded = start(t, routeConfig(url, "timeout: 20s"))
			}
			inject(t, server, c.fault)
			r, _ := http.NewRequest(http.MethodPost, "http://"+address+"/svc/pkg.Service/Method", strings.NewReader("\x00\x00\x00\x00\x00"))
			r.Header.Set("Content-Type", "application/grpc")
			res, err := h2cClient(t).Do(r)
			if err == nil {
				_, err = io.ReadAll(res.Body)
			} else if c.cut { // the stream was reset before its first frame was sent
				res = &http.Response{StatusCode: c.status}
			} else {
				t.Fatal(err)
			}
			if res.StatusCode != c.status || res.Header.Get("Grpc-Status") != c.code || (err != nil) != c.cut || res.Trailer.Get("Grpc-Status") != "" {
				t.Errorf("%d %v %v, %v", res.StatusCode, res.Header, res.Trailer, err)
			}
			if o := recorded.next(t); o.Failure == nil || o.Failure.Type != c.kind {
				t.Errorf("%+v, %+v", o, o.Failure)
			}
		})
	}
}

// Each attempt is drawn for itself, and counted.
func TestRetriesAreHitByFaults(t *testing.T) {
	for _, kind := range []events.FaultKind{events.FaultAbort, events.FaultReset, events.FaultCut} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			u := &faultUpstream{size: 10}
			upstream := httptest.NewServer(u)
			t.Cleanup(upstream.Close)
			server, address, recorded := start(t, routeConfig(upstream.URL, fmt.Sprintf(quickRetry, ""), "breaker: {fail_max: 10}"))
			f := inject(t, server, events.Fault{Kind: kind})
			put := func() int {
				r, _ := http.NewRequest("PUT", "http://"+address+"/svc", strings.NewReader("hello"))
				res, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				_ = res.Body.Close()
				return res.StatusCode
			}
			if status, o := put(), recorded.next(t); status < 502 || o.Attempts != 3 || injected(server, kind) != 3 {
				t.Errorf("status %d, %d attempts, %d injected", status, o.Attempts, injected(server, kind))
			}
			if _, err := server.Faults("svc").End(f.ID, ""); err != nil {
				t.Fatal(err)
			}
			if status, o := put(), recorded.next(t); status != 200 || o.Attempts != 1 || injected(server, kind) != 3 {
				t.Errorf("status %d, %d attempts, %d injected after the end", status, o.Attempts, injected(server, kind))
			}
		})
	}
}

// A breaker that blocks nothing does not keep faults from being injected, and fallbacks answer as for real failures.
func TestFaultsInEachModeOfTheBreaker(t *testing.T) {
	for _, mode := range []string{"enforce", "shadow", "off"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			server, address, _ := start(t, "fallbacks: {svc: {try: [static], static: {body: {a: 1}}}}\n"+
				routeConfig(closedPort(t), `breaker: {fail_max: 2, mode: "`+mode+`", recovery_timeout: 1h}`))
			inject(t, server, events.Fault{Kind: events.FaultReset})
			for i := range 4 {
				res, _ := get(t, "http://"+address+"/svc")
				want := "reset"
				if mode == "enforce" && i >= 2 {
					want = "open"
				}
				if got := res.Header.Get("X-Fallback-Reason"); res.StatusCode != 200 || got != want {
					t.Errorf("request %d: status %d, reason %q, want %q", i, res.StatusCode, got, want)
				}
			}
		})
	}
}

func TestDelayCountsAsResponseTime(t *testing.T) {
	u := httptest.NewServer(new(faultUpstream))
	t.Cleanup(u.Close)
	server, address, _ := start(t, routeConfig(u.URL, "breaker: {slow_call_ratio: 1, slow_call_duration: 20ms, min_requests: 2, recovery_timeout: 1h}"))
	inject(t, server, events.Fault{Kind: events.FaultDelay, Delay: events.Duration(25 * time.Millisecond)})
	for range 2 {
		if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 200 {
			t.Errorf("status %d", res.StatusCode)
		}
	}
	if s := server.Breaker("svc").Status(); s.State != events.Open || s.Cause != events.CauseSlowCallRatio {
		t.Errorf("%+v", s)
	}
}

// A client that leaves during a delay is no failure of the upstream. An HTTP/1.1 server may notice it only once it has read the
// upload, which the fault does not.
func TestClientLeavesDuringADelay(t *testing.T) {
	for name, body := range map[string]string{"no body": "", "small body": "hello", "large body": strings.Repeat("x", 1<<20)} {
		t.Run(name, func(t *testing.T) {
			overEachProtocol(t, func(t *testing.T, client *http.Client, upstream func(http.Handler) string) {
				unread := name == "large body" || name == "small body" && httpMode == "net_http"
				if unread && strings.Contains(t.Name(), "HTTP/1.1_client") {
					t.Skip("the server does not notice it")
				}
				u := new(faultUpstream)
				server, address, recorded := start(t, routeConfig(upstream(u), "timeout: 1h", "breaker: {fail_max: 1}"))
				inject(t, server, events.Fault{Kind: events.FaultDelay, Delay: events.Duration(10 * time.Minute)})
				ctx, cancel := context.WithCancel(t.Context())
				r, _ := http.NewRequestWithContext(ctx, "POST", "http://"+address+"/svc", strings.NewReader(body))
				done := make(chan error, 1)
				go func() {
					res, err := client.Do(r)
					if err == nil {
						_ = res.Body.Close()
					}
					done <- err
				}()
				for injected(server, events.FaultDelay) == 0 {
					time.Sleep(time.Millisecond)
				}
				cancel()
				if err := <-done; !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				if o := recorded.next(t); o.Result != events.ResultCancelled || o.Failure != nil || u.requests.Load() != 0 {
					t.Errorf("%+v, %+v", o, o.Failure)
				}
			})
		})
	}
}

func TestFaultsSurviveReloads(t *testing.T) {
	apply := func(server *proxy.Server, text string) {
		if err := server.Apply(parse(t, text)); err != nil {
			t.Fatal(err)
		}
	}
	server, address, _ := start(t, routeConfig(closedPort(t), "breaker: {fail_max: 100}"))
	f := inject(t, server, events.Fault{Kind: events.FaultAbort, Status: 418})
	set := server.Faults("svc")
	apply(server, routeConfig(closedPort(t), "timeout: 7s", "breaker: {fail_max: 100}"))
	if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 418 {
		t.Errorf("status %d after a reload", res.StatusCode)
	}
	apply(server, strings.ReplaceAll(routeConfig(closedPort(t)), "svc", "other"))
	if server.Faults("svc") != nil || len(set.List()) != 0 || len(server.FaultStatuses()) != 1 {
		t.Errorf("%+v after the service was removed", set.List())
	}
	apply(server, routeConfig(closedPort(t)))
	if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 502 {
		t.Errorf("status %d after the service was added again", res.StatusCode)
	}
	if _, err := set.End(f.ID, ""); err == nil {
		t.Error("the fault was still in force")
	}
}

func TestCutTunnelEndsAfterDataFromTheUpstream(t *testing.T) {
	url := cannedUpstream(t, nil, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
	server, address, recorded := start(t, routeConfig(url))
	inject(t, server, events.Fault{Kind: events.FaultCut})
	_, r := openWebSocket(t, address)
	if text, _ := io.ReadAll(r); string(text) != "hello" {
		t.Errorf("got %q", text)
	}
	recorded.next(t)
	if injected(server, events.FaultCut) != 1 {
		t.Error("the fault was not counted")
	}
}

// The response of an abort is not taken for one of the upstream after the rehearsal.
func TestAbortIsNotCached(t *testing.T) {
	u := httptest.NewServer(&faultUpstream{size: 10})
	t.Cleanup(u.Close)
	server, address, _ := start(t, "fallbacks: {svc: {try: [cache]}}\n"+routeConfig(u.URL))
	inject(t, server, events.Fault{Kind: events.FaultAbort, Status: 200})
	if _, body := get(t, "http://"+address+"/svc"); !strings.Contains(body, "injected") {
		t.Errorf("%q", body)
	}
	server.Breaker("svc").Force(events.Open, 0, "test")
	if res, body := get(t, "http://"+address+"/svc"); res.StatusCode != 503 {
		t.Errorf("status %d, %v, %q", res.StatusCode, res.Header, body)
	}
}
