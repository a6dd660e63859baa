package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sony/gobreaker/v2"

	"cbproxy/internal/e2e/harness"
)

// enforcement says whether cbproxy enforces a service's breaker, and thus what the service's callers may expect.
type enforcement int

const (
	shadowed enforcement = iota // the upstream's result, and no fallback
	changing                    // either, because a configuration change is being applied
	enforced                    // a response, even if the upstream is down
)

// migratedService is a service whose callers move from their own breakers to cbproxy's.
type migratedService struct {
	t        testing.TB
	name     string
	proxyURL string // base URL of the service at the proxy
	upstream *harness.Upstream
	callers  []*caller

	mu          sync.Mutex
	enforcement enforcement // guarded by mu
	outages     []outage    // guarded by mu
}

// outage is a period in which an upstream may have failed requests. A zero end means that it has not ended.
type outage struct{ begin, end time.Time }

func (s *migratedService) setEnforcement(e enforcement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enforcement = e
}

func (s *migratedService) currentEnforcement() enforcement {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.enforcement
}

// killUpstream kills the upstream and records the begin of an outage.
func (s *migratedService) killUpstream() {
	s.mu.Lock()
	s.outages = append(s.outages, outage{begin: time.Now()}) // before the kill, so that no failure precedes the outage
	s.mu.Unlock()
	s.upstream.Kill()
}

// restartUpstream starts the upstream again and records the end of the outage.
func (s *migratedService) restartUpstream() {
	s.t.Helper()
	s.upstream.Start()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outages[len(s.outages)-1].end = time.Now()
}

// mayHaveFailed reports whether a request between begin and end could have failed without cbproxy.
func (s *migratedService) mayHaveFailed(begin, end time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.outages {
		if !o.begin.After(end) && (o.end.IsZero() || !o.end.Before(begin)) {
			return true
		}
	}
	return false
}

// caller is a client of a service. It has its own breaker until the migration removes it.
type caller struct {
	service         *migratedService
	client          *http.Client
	url             atomic.Pointer[string]
	breaker         atomic.Pointer[gobreaker.CircuitBreaker[harness.Response]] // nil after its removal
	breakerOpenings atomic.Int64                                               // how often breaker has opened

	// Calls, and their results: responses of the upstream, fallbacks, and rejections by breaker.
	calls, successes, fallbacks, rejections atomic.Int64
}

var errServerError = errors.New("the response has a 5xx status")

func newCaller(s *migratedService) *caller {
	c := &caller{service: s, client: &http.Client{Transport: &http.Transport{}, Timeout: harness.EventTimeout}}
	direct := s.upstream.URL()
	c.url.Store(&direct)
	c.breaker.Store(gobreaker.NewCircuitBreaker[harness.Response](gobreaker.Settings{
		Timeout:     50 * time.Millisecond, // short, so that it probes often
		ReadyToTrip: func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= 3 },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if to == gobreaker.StateOpen {
				c.breakerOpenings.Add(1)
			}
		},
	}))
	return c
}

// run calls the service every 2 ms, and checks the results, until done is closed.
func (c *caller) run(done <-chan struct{}) {
	defer c.client.CloseIdleConnections()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-done:
			return
		case <-ticker.C:
		}
		before, begin, url := c.service.currentEnforcement(), time.Now(), *c.url.Load()
		r, err := c.call(fmt.Sprintf("%s/slow?for=1ms&n=%d", url, n))
		during := before
		if c.service.currentEnforcement() != before {
			during = changing
		}
		c.check(during, url == c.service.proxyURL, begin, r, err)
		c.calls.Add(1)
	}
}

// call sends one request, through the caller's own breaker if it has one.
func (c *caller) call(url string) (harness.Response, error) {
	get := func() (harness.Response, error) {
		res, err := c.client.Get(url)
		if err != nil {
			return harness.Response{}, err
		}
		defer func() { _ = res.Body.Close() }()
		body, err := io.ReadAll(res.Body)
		r := harness.Response{Status: res.StatusCode, Header: res.Header, Body: string(body)}
		if err == nil && r.Status >= 500 {
			err = errServerError
		}
		return r, err
	}
	if breaker := c.breaker.Load(); breaker != nil {
		return breaker.Execute(get)
	}
	return get()
}

// check counts the result of a call. It fails the test if the caller would have got a better result without cbproxy, or
// a worse one than cbproxy guarantees.
func (c *caller) check(e enforcement, throughProxy bool, begin time.Time, r harness.Response, err error) {
	t, fallback := c.service.t, r.Header.Get("X-Fallback")
	switch {
	case errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests):
		c.rejections.Add(1)
		if e == enforced {
			t.Errorf("%s: the caller's own breaker rejected a request that cbproxy would have answered", c.service.name)
		}
	case err != nil && throughProxy && !errors.Is(err, errServerError):
		t.Errorf("%s: no response from cbproxy: %v", c.service.name, err)
	case err != nil && (e == enforced || !c.service.mayHaveFailed(begin, time.Now())):
		t.Errorf("%s: a request failed because of cbproxy (enforcement %d): %v, %+v", c.service.name, e, err, r)
	case err != nil:
	case fallback != "" && e == shadowed:
		t.Errorf("%s: fallback in shadow mode: %+v", c.service.name, r)
	case fallback != "":
		c.fallbacks.Add(1)
	case r.Status != http.StatusOK || r.Body != "done":
		t.Errorf("%s: unexpected response %+v", c.service.name, r)
	default:
		c.successes.Add(1)
	}
}
