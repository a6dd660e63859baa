package proxy_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"cbproxy/internal/events"
)

// blockingUpstream is an upstream that responds to no request before release is called. arrived receives a value per request.
func blockingUpstream(t testing.TB) (url string, arrived <-chan struct{}, release func()) {
	in, out := make(chan struct{}, 1000), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		in <- struct{}{}
		select {
		case <-out:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, in, func() { close(out) }
}

func TestBulkheadShedsExcessRequestsWithoutRecordingFailures(t *testing.T) {
	url, arrived, release := blockingUpstream(t)
	server, address, recorded := start(t, "fallbacks: {svc: {try: [static], static: {status: 299, body: {}}}}\n"+
		routeConfig(url, "max_in_flight: 3", "breaker: {fail_max: 1}"))
	done := make(chan int, 10)
	send := func() {
		res, err := http.Get("http://" + address + "/svc")
		if err != nil {
			t.Error(err)
			return
		}
		_ = res.Body.Close()
		done <- res.StatusCode
	}
	for range 3 {
		go send()
		<-arrived
	}
	res, _ := get(t, "http://"+address+"/svc")
	if o := recorded.next(t); res.StatusCode != 299 || res.Header.Get("X-Fallback-Reason") != "overload" || res.Header.Get("X-Circuit-Breaker-State") != "closed" ||
		o.Result != events.ResultRejected || o.Shed != events.ShedByRoute || o.Attempts != 0 {
		t.Errorf("%d %v, %+v", res.StatusCode, res.Header, o)
	}
	release()
	for range 3 {
		if status := <-done; status != 200 {
			t.Errorf("a request within the limit got %d", status)
		}
		recorded.next(t)
	}
	if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 200 || server.Breaker("svc").State() != events.Closed {
		t.Errorf("after the release: status %d, breaker %v", res.StatusCode, server.Breaker("svc").State())
	}
}

// A request that is shed in the half-open state holds no permit: the next request is the probe that closes the breaker.
func TestShedRequestHoldsNoProbePermit(t *testing.T) {
	url, arrived, release := blockingUpstream(t)
	server, address, recorded := start(t, routeConfig(url, "max_in_flight: 1"))
	go func() {
		if res, err := http.Get("http://" + address + "/svc"); err == nil {
			_ = res.Body.Close()
		}
	}()
	<-arrived
	server.Breaker("svc").Force(events.HalfOpen, 0, "test")
	if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 503 || recorded.next(t).Reason != events.ReasonOverload {
		t.Errorf("status %d", res.StatusCode)
	}
	release()
	recorded.next(t)
	if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 200 || server.Breaker("svc").State() != events.Closed {
		t.Errorf("the next request is no successful probe: status %d, breaker %v", res.StatusCode, server.Breaker("svc").State())
	}
}

// Each priority gets a share of the proxy's max_in_flight. The lower the priority, the smaller is its share.
func TestProxyLimitShedsLowPrioritiesFirst(t *testing.T) {
	url, arrived, release := blockingUpstream(t)
	defer release()
	config := "max_in_flight: 10\nroutes:\n"
	for priority := 1; priority <= 3; priority++ {
		config += fmt.Sprintf("  p%d: {prefix: /p%[1]d, upstream: %q, priority: %[1]d}\n", priority, url)
	}
	_, address, recorded := start(t, config)
	fill := func(priority, n int) {
		for range n {
			go func() {
				if res, err := http.Get(fmt.Sprintf("http://%s/p%d", address, priority)); err == nil {
					_ = res.Body.Close()
				}
			}()
			<-arrived
		}
	}
	shed := func(priority int) bool {
		res, _ := get(t, fmt.Sprintf("http://%s/p%d", address, priority))
		return res.StatusCode == 503 && recorded.next(t).Shed == events.ShedByProxy
	}
	fill(3, 6)
	if !shed(3) {
		t.Error("priority 3 exceeds its share")
	}
	fill(2, 2)
	if !shed(2) || !shed(3) {
		t.Error("priority 2 exceeds its share")
	}
	fill(1, 2)
	if !shed(1) || !shed(2) || !shed(3) {
		t.Error("more requests in flight than max_in_flight")
	}
}
