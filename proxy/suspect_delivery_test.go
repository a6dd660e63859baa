package proxy_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/service"
)

// suspectDelivery is delivery for a request that has failed several times.
func suspectDelivery(body string) *service.Delivery {
	d := delivery(body)
	d.SuspectedPoison = true
	return d
}

// A suspect delivery that was sent and fails is not counted as a failure of the upstream. Failing to connect is.
func TestSuspectDeliveryFailureIsNotCounted(t *testing.T) {
	end := make(chan bool)
	defer close(end)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/status":
			w.WriteHeader(500)
		case "/reset":
			panic(http.ErrAbortHandler)
		case "/hang":
			<-end
		}
	}))
	t.Cleanup(s.Close)
	for _, state := range []events.State{events.Closed, events.HalfOpen} {
		server, _, recorded := start(t, routeConfig(s.URL, "timeout: 200ms", "breaker: {fail_max: 1, half_open_requests: 1, recovery_timeout: 1h}"))
		b := server.Breaker("svc")
		if state == events.HalfOpen {
			b.Force(state, 0, "test")
		}
		for _, path := range []string{"/status", "/reset", "/hang", "/status"} {
			d := suspectDelivery("x")
			d.UpstreamPath = path
			response, err := server.Deliver(t.Context(), d)
			if (path == "/status") != (response.Status == 500) || (path == "/status") != (err == nil) {
				t.Errorf("%s: %+v, %v", path, response, err)
			}
			if failed := new(service.DeliveryError); errors.As(err, &failed) && failed.NotCausedByRequest {
				t.Errorf("%s: NotCausedByRequest is set, but the delivery was sent", path)
			}
			if s := b.Status(); s.State != state || s.ProbesInFlight != 0 || s.ConsecutiveFailures != 0 || s.LastFailure != nil {
				t.Errorf("%v, %s: breaker %+v", state, path, s)
			}
		}
		if len(recorded.failures) > 0 {
			t.Errorf("counted %v", recorded.failures)
		}
		d := suspectDelivery("x")
		if _, err := server.Deliver(t.Context(), d); err != nil || b.State() != events.Closed {
			t.Errorf("after a success: %v, %v", err, b.State())
		}
		if _, err := server.Deliver(t.Context(), delivery("x")); err != nil {
			t.Error(err)
		}
		d = delivery("x")
		d.UpstreamPath = "/status"
		if _, err := server.Deliver(t.Context(), d); err != nil || b.State() != events.Open {
			t.Errorf("after the failure of a delivery that is not suspect: %v, %v", err, b.State())
		}
	}
	for _, state := range []events.State{events.Closed, events.HalfOpen} {
		server, _, _ := start(t, routeConfig(closedPort(t), "breaker: {fail_max: 1, half_open_requests: 1, recovery_timeout: 1h}"))
		b := server.Breaker("svc")
		if state == events.HalfOpen {
			b.Force(state, 0, "test")
		}
		var failed *service.DeliveryError
		if _, err := server.Deliver(t.Context(), suspectDelivery("x")); !errors.As(err, &failed) || !failed.NotCausedByRequest || b.State() != events.Open {
			t.Errorf("without a connection: %v, %v", err, b.State())
		}
	}
}

// A suspect delivery that hangs does not hold the only permit of a half-open breaker.
func TestSuspectDeliveryTakesNoProbePermit(t *testing.T) {
	arrived, release := make(chan bool), make(chan bool)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			arrived <- true
			<-release
		}
	}))
	defer s.Close()
	server, address, _ := start(t, routeConfig(s.URL, "breaker: {half_open_requests: 1, recovery_timeout: 1h}"))
	b := server.Breaker("svc")
	b.Force(events.HalfOpen, 0, "test")
	done := make(chan error)
	go func() { _, err := server.Deliver(t.Context(), suspectDelivery("x")); done <- err }()
	<-arrived
	if s := b.Status(); s.State != events.HalfOpen || s.ProbesInFlight != 0 {
		t.Errorf("%+v", s)
	}
	res, err := http.Get("http://" + address + "/svc")
	if err != nil || res.StatusCode != 200 || b.State() != events.Closed {
		t.Errorf("a client's request: %+v, %v; %v", res, err, b.State())
	} else {
		_ = res.Body.Close()
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// If client requests were rejected while the breaker was open, every second half-open state leaves its permits to clients for some
// seconds: deliveries are deferred.
func TestDeliveryLeavesProbePermitsToClients(t *testing.T) {
	server, address, _ := start(t, routeConfig(closedPort(t), "breaker: {fail_max: 1, recovery_timeout: 1h}"))
	b := server.Breaker("svc")
	sendClientRequest := func() {
		if res, err := http.Get("http://" + address + "/svc"); err == nil {
			_ = res.Body.Close()
		}
	}
	b.Force(events.Open, 0, "test")
	sendClientRequest()
	for i, wantDeferred := range []bool{true, false, true} {
		b.Force(events.HalfOpen, 0, "test")
		_, err := server.Deliver(t.Context(), delivery("x"))
		var deferred *service.DeferredError
		if errors.As(err, &deferred) != wantDeferred {
			t.Errorf("half-open state %d: %v", i+1, err)
		}
		if wantDeferred {
			if wait := time.Until(deferred.Until); wait <= 0 || wait > 5*time.Second || b.Status().ProbesInFlight != 0 {
				t.Errorf("deferred for %v, %+v", wait, b.Status())
			}
			sendClientRequest() // a probe that fails
		}
		if b.State() != events.Open {
			t.Errorf("%v after a failed probe", b.State())
		}
	}
}

// Deliveries are not deferred if there were no client requests.
func TestDeliveryIsNotDeferredWithoutClients(t *testing.T) {
	server, _, _ := start(t, routeConfig(closedPort(t), "breaker: {fail_max: 1, recovery_timeout: 1h}"))
	b := server.Breaker("svc")
	for range 3 {
		b.Force(events.HalfOpen, 0, "test")
		if _, err := server.Deliver(t.Context(), delivery("x")); errors.Is(err, breaker.ErrHalfOpenLimit) || errors.As(err, new(*service.DeferredError)) {
			t.Error(err)
		}
	}
}
