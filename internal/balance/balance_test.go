package balance_test

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/balance"
	"cbproxy/internal/events"
	"cbproxy/internal/upstream"
)

// service is a set of endpoints under test.
type service struct {
	t *testing.T
	*balance.Set
	config balance.Config

	mu        sync.Mutex
	published []events.Event
}

func newService(t *testing.T, p balance.Policy, urls ...string) *service {
	s := &service{t: t, config: balance.Config{
		Service: "svc", Policy: p, ResolveInterval: 5 * time.Second,
		NewPool: func(u *url.URL, address netip.Addr) *upstream.Pool {
			return upstream.New(upstream.Config{URL: u, Address: address})
		},
	}}
	s.config.Publish = func(e events.Event) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.published = append(s.published, e)
	}
	for _, text := range urls {
		s.addSource(text, false)
	}
	return s
}

func (s *service) addSource(text string, resolve bool) {
	u, err := url.Parse(text)
	if err != nil {
		s.t.Fatal(err)
	}
	s.config.Sources = append(s.config.Sources, balance.Source{URL: u, Resolve: resolve, Key: text})
}

// start makes the set of the configuration, which follows the current one.
func (s *service) start() *service {
	previous := s.Set
	s.Set = balance.New(s.config, previous)
	s.Start()
	if previous != nil {
		previous.Close()
	}
	return s
}

// causes returns the causes of the changes of endpoints so far.
func (s *service) causes() (causes []events.EndpointCause) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.published {
		if changed, ok := e.(events.EndpointChanged); ok {
			causes = append(causes, changed.Cause)
		}
	}
	return causes
}

func (s *service) pick(tried ...*balance.Endpoint) balance.Lease {
	s.t.Helper()
	lease, err := s.Pick(s.t.Context(), tried...)
	if err != nil {
		s.t.Fatal(err)
	}
	return lease
}

var failure = &events.Failure{Type: events.ErrorReset}

// call makes one request, which fails if its endpoint is in dead. It returns the endpoint's URL.
func (s *service) call(dead ...string) string {
	s.t.Helper()
	lease := s.pick()
	defer lease.Release()
	if slices.Contains(dead, lease.URL) {
		lease.Failed(failure)
	} else {
		lease.Succeeded()
	}
	return lease.URL
}

// ejected returns the URLs of the endpoints that are ejected.
func (s *service) ejected() (urls []string) {
	for _, e := range s.Status() {
		if e.State == events.EndpointEjected {
			urls = append(urls, e.URL)
		}
	}
	return urls
}

func policy(name string) balance.Policy {
	return balance.Policy{Name: name, FailMax: 5, Time: 30 * time.Second, MaxRatio: 0.5}
}

const a, b, c = "http://a:1", "http://b:1", "http://c:1"

func TestRoundRobinTakesTurns(t *testing.T) {
	s := newService(t, policy("round_robin"), a, b, c).start()
	defer s.Close()
	var got []string
	for range 6 {
		got = append(got, s.call())
	}
	if want := []string{a, b, c, a, b, c}; !slices.Equal(got, want) {
		t.Errorf("requests went to %v, want %v", got, want)
	}
}

// With many endpoints of which one answers slowly, that one has hardly more requests in flight than the others.
func TestLeastInFlightEvensOut(t *testing.T) {
	s := newService(t, policy("least_in_flight"), a, b, c).start()
	defer s.Close()
	for range 300 {
		s.pick()
	}
	for _, e := range s.Status() {
		if e.InFlight < 90 || e.InFlight > 110 {
			t.Errorf("%s has %d of 300 requests in flight", e.URL, e.InFlight)
		}
	}
}

func TestEndpointIsEjectedAndTried(t *testing.T) {
	for _, name := range []string{"round_robin", "least_in_flight"} {
		synctest.Test(t, func(t *testing.T) {
			s := newService(t, policy(name), a, b, c).start()
			defer s.Close()
			for n := 1; n <= 3; n++ {
				for len(s.ejected()) == 0 || !slices.Equal(s.ejected(), []string{b}) {
					s.call(b)
				}
				until := time.Now().Add(time.Duration(n) * 30 * time.Second)
				if got := s.Status()[1].Until; !got.Equal(until) {
					t.Fatalf("%s: ejection %d ends %v, want %v", name, n, got, until)
				}
				for range 100 {
					if s.call(b) == b {
						t.Fatal("a request went to the ejected endpoint")
					}
				}
				time.Sleep(time.Until(until))
				if got := s.call(b); got != b { // the trial
					t.Fatalf("%s: the request after the ejection went to %s", name, got)
				}
			}
			s.call(b) // the request after a failed trial is none
			time.Sleep(4 * 30 * time.Second)
			if s.call() != b || len(s.ejected()) > 0 {
				t.Fatalf("%s: after a trial that succeeded, %v are ejected", name, s.ejected())
			}
			want := []events.EndpointCause{events.EndpointFailed, events.EndpointTrialFailed, events.EndpointTrialFailed, events.EndpointTrialFailed, events.EndpointRecovered}
			if got := s.causes(); !slices.Equal(got, want) {
				t.Errorf("%s: the causes are %v, want %v", name, got, want)
			}
			// Soon after, it is the next one in the row; after a time without an ejection, it is the first one again.
			for i, want := range []time.Duration{5 * 30 * time.Second, 30 * time.Second} {
				for len(s.ejected()) == 0 {
					s.call(b)
				}
				if got := time.Until(s.Status()[1].Until); got != want {
					t.Fatalf("%s: ejection %d after the recovery lasts %v, want %v", name, i, got, want)
				}
				time.Sleep(want)
				s.call()
				time.Sleep(31 * time.Second)
			}
		})
	}
}

func TestOnlyOneRequestIsTheTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, policy("round_robin"), a, b).start()
		defer s.Close()
		for len(s.ejected()) == 0 {
			s.call(b)
		}
		time.Sleep(30 * time.Second)
		trial := s.pick()
		if trial.URL != b {
			t.Fatalf("the trial went to %s", trial.URL)
		}
		for range 10 {
			if s.call() == b {
				t.Fatal("a second request went to the endpoint on trial")
			}
		}
		trial.Release() // the client has gone: the next request is the trial
		trial = s.pick()
		if trial.URL != b {
			t.Fatalf("the second trial went to %s", trial.URL)
		}
		trial.StreamStarted()
		if len(s.ejected()) > 0 {
			t.Error("the endpoint has begun a stream and is still ejected")
		}
		trial.Release()
	})
}

// A half-open breaker sends one request at a time, less often than a short ejection ends: not each of them is a trial.
func TestNoTrialAfterFailedTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, balance.Policy{Name: "round_robin", FailMax: 1, Time: time.Second, MaxRatio: 0.5}, "http://a", "http://b").start()
		defer s.Close()
		for s.call("http://b") != "http://b" {
		}
		var got []string
		for range 4 {
			time.Sleep(time.Minute)
			got = append(got, s.call("http://b"))
		}
		if want := []string{"http://b", "http://a", "http://b", "http://a"}; !slices.Equal(got, want) {
			t.Errorf("requests to %v, want %v", got, want)
		}
	})
}

// A retry is sent to another endpoint, and is never a trial.
func TestRetryGoesToAnotherEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, policy("least_in_flight"), a, b, c).start()
		defer s.Close()
		endpoints := s.Endpoints()
		for range 50 {
			if got := s.pick(endpoints[0], endpoints[2]).URL; got != b {
				t.Fatalf("after a and c, the request went to %s", got)
			}
			if got := s.pick(endpoints...).URL; got == c {
				t.Fatalf("after all were tried, the request went to the latest one again")
			}
		}
		failed := s.pick(endpoints[0], endpoints[2])
		failed.Failed(failure)
		for range 50 {
			if got := s.pick(endpoints[0]).URL; got != c {
				t.Fatalf("a retry went to %s, whose latest request has failed", got)
			}
		}
		for len(s.ejected()) == 0 {
			failed = s.pick(endpoints[0], endpoints[2])
			failed.Failed(failure)
		}
		time.Sleep(time.Hour)
		for range 50 {
			if got := s.pick(endpoints[0]).URL; got != c {
				t.Fatalf("a retry went to %s, which is ejected", got)
			}
		}
	})
}

func TestMaxRatio(t *testing.T) {
	for _, tt := range []struct {
		endpoints int
		ratio     float64
		want      int
	}{
		{1, 1, 0}, {2, 0.5, 1}, {2, 1, 1}, {3, 0.5, 2}, {3, 1, 2}, {3, 0, 0}, {4, 0.5, 2}, {10, 0.1, 1}, {10, 0.3, 3}, {10, 0.31, 4}, {64, 1, 63},
	} {
		s := newService(t, balance.Policy{Name: "round_robin", FailMax: 1, Time: time.Hour, MaxRatio: tt.ratio})
		var urls []string
		for i := range tt.endpoints {
			urls = append(urls, "http://"+string(rune('A'+i%26))+string(rune('a'+i/26))+":1")
			s.addSource(urls[i], false)
		}
		s.start()
		for range 3 * tt.endpoints {
			s.call(urls...)
		}
		if got := len(s.ejected()); got != tt.want {
			t.Errorf("of %d endpoints that fail, %d are ejected with max_ratio %v, want %d", tt.endpoints, got, tt.ratio, tt.want)
		}
		s.Close()
	}
}

// A success ends the row of failures, and a request without an outcome does not change it.
func TestFailuresInARow(t *testing.T) {
	s := newService(t, policy("round_robin"), a, b).start()
	defer s.Close()
	for range 20 {
		for s.Status()[1].FailCounter < 4 {
			s.call(b)
		}
		for s.Status()[1].FailCounter > 0 {
			s.call()
		}
		for range 2 {
			neutral := s.pick()
			neutral.Release()
		}
	}
	if got := s.ejected(); len(got) > 0 {
		t.Errorf("%v are ejected after rows of 4 failures", got)
	}
}

func TestReloadKeepsEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, policy("round_robin"), a, b, c).start()
		for len(s.ejected()) == 0 {
			s.call(b)
		}
		lease := s.pick()
		old := s.Endpoints()
		s.config.Sources = slices.Delete(s.config.Sources, 2, 3) // without c
		s.addSource("http://d:1", false)
		s.start()
		if got := s.Endpoints(); len(got) != 3 || got[0] != old[0] || got[1] != old[1] || got[2].URL != "http://d:1" {
			t.Errorf("the reload did not keep the endpoints that stay")
		}
		if got := s.ejected(); !slices.Equal(got, []string{b}) {
			t.Errorf("after the reload, %v are ejected, want b", got)
		}
		lease.Release()

		s.config.Sources = s.config.Sources[1:2] // b alone, which is needed now
		s.start()
		if got := s.ejected(); len(got) > 0 {
			t.Errorf("the last endpoint is ejected")
		}
		s.Close()
		want := []events.EndpointCause{events.EndpointFailed, events.EndpointNeeded}
		if got := s.causes(); !slices.Equal(got, want) {
			t.Errorf("the causes are %v, want %v", got, want)
		}
	})
}

func TestEjectionTurnedOff(t *testing.T) {
	s := newService(t, policy("round_robin"), a, b).start()
	for len(s.ejected()) == 0 {
		s.call(b)
	}
	s.config.Policy.FailMax = 0
	s.start()
	defer s.Close()
	for range 100 {
		s.call(a, b)
	}
	if got := s.causes(); !slices.Equal(got, []events.EndpointCause{events.EndpointFailed, events.EndpointNotJudged}) || len(s.ejected()) > 0 {
		t.Errorf("the causes are %v, %v are ejected", got, s.ejected())
	}
}

func TestHealthChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := policy("round_robin")
		p.HealthChecks = true
		s := newService(t, p, a, b).start()
		defer s.Close()
		unhealthy := s.Endpoints()[1]
		for range 5 {
			s.call() // requests succeed meanwhile
			s.call()
			if len(s.ejected()) > 0 {
				t.Fatal("ejected too early")
			}
			s.Checked(unhealthy, failure)
		}
		if got := s.ejected(); !slices.Equal(got, []string{b}) {
			t.Fatalf("after 5 failed checks, %v are ejected", got)
		}
		s.Checked(unhealthy, nil)
		if len(s.ejected()) == 0 {
			t.Error("a check has ended the ejection before its time")
		}
		time.Sleep(time.Minute)
		for range 2 {
			if s.call() == b {
				t.Error("a request was the trial, although there are health checks")
			}
		}
		s.Checked(unhealthy, failure)
		s.Checked(unhealthy, nil)
		if len(s.ejected()) == 0 {
			t.Error("a failed check has not prolonged the ejection")
		}
		time.Sleep(time.Minute)
		s.Checked(unhealthy, nil)
		want := []events.EndpointCause{events.EndpointUnhealthy, events.EndpointTrialFailed, events.EndpointRecovered}
		if got := s.causes(); !slices.Equal(got, want) || len(s.ejected()) > 0 {
			t.Errorf("the causes are %v, want %v; %v are ejected", got, want, s.ejected())
		}
	})
}

var errLookup = errors.New("no such host")

// names is a DNS server.
type names struct {
	mu        sync.Mutex
	addresses []string
	err       error
	lookups   int
}

func (n *names) set(err error, addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addresses, n.err = addresses, err
}

func (n *names) lookup(context.Context, string) (found []netip.Addr, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lookups++
	for _, text := range n.addresses {
		found = append(found, netip.MustParseAddr(text))
	}
	return found, n.err
}

func (s *service) urls() (urls []string) {
	for _, e := range s.Endpoints() {
		urls = append(urls, e.URL)
	}
	return urls
}

func TestAddressesOfAName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, dns := newService(t, policy("round_robin")), new(names)
		s.addSource("http://rag:8000/base", true)
		s.config.Lookup = dns.lookup
		dns.set(nil, "10.0.0.2", "10.0.0.1", "fd00::1", "10.0.0.1")
		s.start()
		defer func() { s.Close() }()
		lease := s.pick() // waits for the first lookup
		if lease.Target.Host != "rag:8000" || lease.Target.Base != "/base" {
			t.Errorf("requests are sent to %+v", lease.Target)
		}
		want := []string{"http://10.0.0.1:8000/base", "http://10.0.0.2:8000/base", "http://[fd00::1]:8000/base"}
		if got := s.urls(); !slices.Equal(got, want) {
			t.Fatalf("the endpoints are %v, want %v", got, want)
		}
		first := s.Endpoints()[0]

		dns.set(errLookup)
		time.Sleep(6 * time.Second)
		if got := s.urls(); !slices.Equal(got, want) {
			t.Errorf("after a failed lookup the endpoints are %v", got)
		}
		dns.set(nil, "10.0.0.1", "10.0.0.3")
		time.Sleep(6 * time.Second)
		if got, want := s.urls(), []string{want[0], "http://10.0.0.3:8000/base"}; !slices.Equal(got, want) || s.Endpoints()[0] != first {
			t.Errorf("after the change the endpoints are %v, want %v", got, want)
		}

		// A connection that fails makes the name be looked up again after at most a second.
		time.Sleep(10 * time.Second)
		dns.set(nil, "10.0.0.9")
		lease = s.pick()
		lease.Failed(&events.Failure{Type: events.ErrorConnect})
		time.Sleep(time.Second)
		synctest.Wait()
		if got, want := s.urls(), []string{"http://10.0.0.9:8000/base"}; !slices.Equal(got, want) {
			t.Errorf("after a failed connection the endpoints are %v, want %v", got, want)
		}

		// A reload keeps what is known, even while the lookup fails.
		dns.set(errLookup)
		s.config.Policy.FailMax = 3
		s.start()
		if got := s.pick().URL; got != "http://10.0.0.9:8000/base" {
			t.Errorf("after the reload a request is sent to %s", got)
		}
		time.Sleep(time.Minute)
		s.checkLookupEvents([]string{"", errLookup.Error(), "", "", errLookup.Error()})
	})
}

// checkLookupEvents compares the errors of the events.EndpointsChanged so far.
func (s *service) checkLookupEvents(want []string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var got []string
	for _, e := range s.published {
		if changed, ok := e.(events.EndpointsChanged); ok {
			got = append(got, changed.Error)
		}
	}
	if !slices.Equal(got, want) {
		s.t.Errorf("the lookups were reported with the errors %q, want %q", got, want)
	}
}

func TestNameWithoutAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, dns := newService(t, policy("least_in_flight")), new(names)
		s.addSource("http://rag:8000", true)
		s.config.Lookup = dns.lookup
		dns.set(upstream.NewConnectError(errLookup))
		s.start()
		defer s.Close()
		_, err := s.Pick(t.Context())
		if !errors.Is(err, errLookup) || upstream.Classify(err, upstream.NotConnected).Failure != events.ErrorConnect {
			t.Errorf("a request without a known address fails with %v", err)
		}
		dns.set(nil, "10.0.0.1")
		time.Sleep(time.Second) // not the whole interval, as a request has asked for it
		synctest.Wait()
		if got := s.pick().URL; got != "http://10.0.0.1:8000" {
			t.Errorf("the request was sent to %s", got)
		}
	})
}

// Of many addresses, each process uses a part, which changes as little as possible.
func TestManyAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, dns := newService(t, policy("least_in_flight"), a), new(names)
		s.addSource("http://rag:8000", true)
		s.config.Lookup = dns.lookup
		var all []string
		for i := range 200 {
			all = append(all, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}).String())
		}
		dns.set(nil, all...)
		s.start()
		defer s.Close()
		synctest.Wait()
		before := s.urls()
		if len(before) != balance.MaxEndpoints || before[0] != a {
			t.Fatalf("%d endpoints, the first is %s", len(before), before[0])
		}
		dns.set(nil, append([]string{"10.0.1.1"}, all...)...)
		time.Sleep(6 * time.Second)
		gone := 0
		for _, u := range before {
			if !slices.Contains(s.urls(), u) {
				gone++
			}
		}
		if gone > 1 || len(s.urls()) != balance.MaxEndpoints {
			t.Errorf("one more address has replaced %d endpoints of %d", gone, len(s.urls()))
		}
	})
}
