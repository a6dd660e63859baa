package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"cbproxy/internal/events"
	"cbproxy/proxy"
)

const (
	testedRoute    = "fallback_test: true"
	testedFallback = "fallbacks: {svc: {when: [status], try: [static], static: {status: 203, methods: [], body: {a: 1}}}}\n"
)

// checkUncounted checks that a breaker has the status that it had before, and that no request was counted.
func checkUncounted(t *testing.T, s *proxy.Server, recorded *recorder, before events.BreakerStatus) {
	t.Helper()
	if after := s.Breaker("svc").Status(); fmt.Sprintf("%+v", after) != fmt.Sprintf("%+v", before) {
		t.Errorf("the breaker was %+v and is %+v", before, after)
	}
	recorded.mu.Lock()
	defer recorded.mu.Unlock()
	if recorded.open != 0 || len(recorded.outcomes)+len(recorded.failures)+len(recorded.local) > 0 {
		t.Errorf("%d in flight, %+v, %v, %v", recorded.open, recorded.outcomes, recorded.failures, recorded.local)
	}
}

// A request that tests the fallback gets it for any method, protocol and body, whatever the reasons in when. It does not reach the
// upstream and is not counted, and the access log has it.
func TestFallbackIsTestedOnRequest(t *testing.T) {
	u := newSettableUpstream(t)
	records := make(accessRecords, 200)
	p := startProxy(t, routeConfig(u.URL, testedRoute, "breaker: {fail_max: 1}", "retry: {attempts: 2}")+testedFallback, proxyOptions{access: records})
	before := p.Breaker("svc").Status()
	large := make([]byte, 4<<20)
	bodies := map[string]func() io.Reader{
		"none":         func() io.Reader { return nil },
		"short":        func() io.Reader { return strings.NewReader("hello") },
		"large":        func() io.Reader { return bytes.NewReader(large) },
		"of no length": func() io.Reader { return io.MultiReader(bytes.NewReader(large)) },
	}
	plain := &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
	defer plain.CloseIdleConnections()
	for protocol, client := range map[string]*http.Client{"HTTP/1.1": plain, "HTTP/2.0": h2cClient(t)} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE"} {
			for name, body := range bodies {
				r, _ := http.NewRequest(method, "http://"+p.address+"/svc/x", body())
				r.Header.Set("X-Fallback-Test", "1")
				res, err := client.Do(r)
				if err != nil {
					t.Fatalf("%s %s, body %s: %v", protocol, method, name, err)
				}
				content, _ := io.ReadAll(res.Body)
				_ = res.Body.Close()
				h := res.Header
				if want := map[bool]string{true: "", false: `{"a":1}`}[method == "HEAD"]; res.StatusCode != 203 || string(content) != want ||
					h.Get("X-Fallback") != "static" || h.Get("X-Fallback-Reason") != "test" || h.Get("X-Circuit-Breaker-State") != "closed" ||
					h.Get("Proxy-Status") == "" || h.Get("Retry-After") != "" {
					t.Errorf("%s %s, body %s: status %d, %q, %v", protocol, method, name, res.StatusCode, content, h)
				}
				if a := records.next(t); a.Result != events.ResultRejected || a.Reason != events.ReasonTest || a.Strategy != "static" ||
					a.Status != 203 || a.Attempts != 0 || a.Protocol != protocol || a.Method != method {
					t.Errorf("logged %+v", a)
				}
			}
		}
	}
	checkUncounted(t, p.Server, p.recorded, before)
	if n := u.requests.Load(); n > 0 {
		t.Errorf("the upstream got %d requests", n)
	}
	if res, _ := get(t, "http://"+p.address+"/svc/x"); res.StatusCode != 200 || p.recorded.next(t).Result != events.ResultSuccess {
		t.Errorf("another request: %+v", res)
	}
}

// testRequest sends a request that tests the fallback of svc.
func testRequest(t *testing.T, address string) *http.Response {
	t.Helper()
	c, r := dial(t, address)
	fmt.Fprint(c, "GET /svc/x HTTP/1.1\r\nHost: x\r\nX-Fallback-Test: 1\r\n\r\n")
	return nextResponse(t, r)
}

// Without the key, or with another value of the field, or several, the request is forwarded with its fields.
func TestOtherRequestsWithTheFieldAreForwarded(t *testing.T) {
	u := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%q", r.Header["X-Fallback-Test"])
	}))
	defer u.Close()
	for key, fields := range map[string][]string{
		"":                     {"X-Fallback-Test: 1\r\n"},
		"fallback_test: false": {"X-Fallback-Test: 1\r\n"},
		testedRoute: {
			"", "X-Fallback-Test: 0\r\n", "X-Fallback-Test: true\r\n", "X-Fallback-Test:\r\n", "X-Fallback-Test: 01\r\n", "X-Fallback-Test: 1, 1\r\n",
			"X-Fallback-Test: 1\r\nX-Fallback-Test: 1\r\n", "X-Fallback-Test: 1\r\nx-fallback-test: 0\r\n", "X_Fallback_Test: 1\r\n",
		},
	} {
		_, address, recorded := start(t, routeConfig(u.URL, key)+testedFallback)
		for _, field := range fields {
			c, r := dial(t, address)
			fmt.Fprint(c, "GET /svc HTTP/1.1\r\nHost: x\r\n"+field+"\r\n")
			res := nextResponse(t, r)
			body, _ := io.ReadAll(res.Body)
			var want []string
			for line := range strings.Lines(field) {
				if name, value, _ := strings.Cut(strings.TrimSpace(line), ":"); name != "X_Fallback_Test" {
					want = append(want, strings.TrimSpace(value))
				}
			}
			if string(body) != fmt.Sprintf("%q", want) || recorded.next(t).Result != events.ResultSuccess {
				t.Errorf("key %q, field %q: the upstream got %s, want %q; %v", key, field, body, want, res.Header)
			}
		}
	}
}

// A route without a fallback answers a test with 503, a gRPC caller gets UNAVAILABLE.
func TestTestedFallbackWithoutAnAnswer(t *testing.T) {
	url := h2cUpstream(t, func(http.ResponseWriter, *http.Request) { t.Error("the upstream got a request") })
	s, address, recorded := start(t, routeConfig(url, testedRoute))
	before := s.Breaker("svc").Status()
	res := testRequest(t, address)
	if h := res.Header; res.StatusCode != 503 || h.Get("Content-Type") != "application/problem+json" || h.Get("X-Fallback") != "" ||
		h.Get("Proxy-Status") != "cbproxy; error=destination_unavailable" || h.Get("X-Circuit-Breaker-State") != "closed" {
		t.Errorf("%d %v", res.StatusCode, h)
	}
	if res := callGRPC(t, address, "X-Fallback-Test", "1"); res.StatusCode != 200 || res.Header.Get("Grpc-Status") != "14" || res.Header.Get("X-Fallback") != "" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	checkUncounted(t, s, recorded, before)
	if err := s.Apply(parse(t, routeConfig(url, testedRoute)+testedFallback)); err != nil {
		t.Fatal(err)
	}
	if res := callGRPC(t, address, "X-Fallback-Test", "1"); res.Header.Get("Grpc-Status") != "14" || res.Header.Get("X-Fallback") != "static" ||
		res.Header.Get("X-Fallback-Reason") != "test" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	checkUncounted(t, s, recorded, before)
}

// A test takes no permit of a half-open breaker, is not rejected by a shadowing one, and shows the state and the end of an open period.
func TestTestedFallbackAndTheBreakersState(t *testing.T) {
	u := newSettableUpstream(t)
	for _, c := range []struct {
		mode       string
		state      events.State
		retryAfter bool
	}{{"enforce", events.HalfOpen, false}, {"enforce", events.Open, true}, {"shadow", events.Open, true}} {
		s, address, recorded := start(t, routeConfig(u.URL, testedRoute, "breaker: {mode: "+c.mode+", recovery_timeout: 1h}")+testedFallback)
		s.Breaker("svc").Force(c.state, time.Hour, "test")
		before := s.Breaker("svc").Status()
		for range 100 {
			res := testRequest(t, address)
			if h := res.Header; res.StatusCode != 203 || h.Get("X-Fallback-Reason") != "test" || h.Get("X-Circuit-Breaker-State") != c.state.String() ||
				(h.Get("Retry-After") != "") != c.retryAfter {
				t.Fatalf("%+v: %d %v", c, res.StatusCode, h)
			}
		}
		checkUncounted(t, s, recorded, before)
		if c.state == events.HalfOpen {
			get(t, "http://"+address+"/svc")
			if o := recorded.next(t); o.Result != events.ResultSuccess || s.Breaker("svc").State() != events.Closed {
				t.Errorf("the probe after the tests: %+v", o)
			}
		}
	}
}

// Tests add nothing to the retry budget and neither use nor need a permit of max_in_flight.
func TestTestedFallbackAndTheLimits(t *testing.T) {
	hung := make(chan struct{})
	release := sync.OnceFunc(func() { close(hung) })
	u := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			<-hung
		}
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer u.Close()
	defer release()
	_, address, recorded := start(t, routeConfig(u.URL, testedRoute, "max_in_flight: 1", `breaker: {mode: "off"}`, "retry: {attempts: 1, budget: 0.1, backoff: 1ms}")+
		strings.Replace(testedFallback, "status]", "overload]", 1))
	get(t, "http://"+address+"/svc")
	if o := recorded.next(t); o.Attempts != 2 {
		t.Fatalf("%+v", o)
	}
	for range 100 {
		testRequest(t, address)
	}
	get(t, "http://"+address+"/svc")
	if o := recorded.next(t); o.Attempts != 1 || !o.RetryBudgetSpent {
		t.Errorf("tests have added to the retry budget: %+v", o)
	}
	go func() {
		if res, err := http.Get("http://" + address + "/svc/hang"); err == nil {
			_ = res.Body.Close()
		}
	}()
	recorded.waitInFlight(t, 1)
	if res := testRequest(t, address); res.Header.Get("X-Fallback-Reason") != "test" {
		t.Errorf("at the limit: %v", res.Header)
	}
	release()
	recorded.next(t)
}

// A reload changes whether requests are tests.
func TestFallbackTestIsReloaded(t *testing.T) {
	u := newSettableUpstream(t)
	s, address, _ := start(t, routeConfig(u.URL)+testedFallback)
	for range 2 {
		if res := testRequest(t, address); res.StatusCode != 200 {
			t.Errorf("without the key: %d", res.StatusCode)
		}
		if err := s.Apply(parse(t, routeConfig(u.URL, testedRoute)+testedFallback)); err != nil {
			t.Fatal(err)
		}
		if res := testRequest(t, address); res.StatusCode != 203 {
			t.Errorf("with the key: %d", res.StatusCode)
		}
		if err := s.Apply(parse(t, routeConfig(u.URL)+testedFallback)); err != nil {
			t.Fatal(err)
		}
	}
}

// An upload to a tested fallback that is larger than what the fallback uses ends: the client gets the response although it still sends.
func TestSlowUploadToATestedFallback(t *testing.T) {
	u := newSettableUpstream(t)
	_, address, _ := start(t, routeConfig(u.URL, testedRoute)+testedFallback)
	c, r := dial(t, address)
	fmt.Fprintf(c, "POST /svc HTTP/1.1\r\nHost: x\r\nX-Fallback-Test: 1\r\nContent-Length: %d\r\n\r\nfirst bytes", 8<<20)
	if res := nextResponse(t, r); res.StatusCode != 203 || !res.Close {
		t.Errorf("%+v", res)
	}
}
