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

// stage is what a service's callers may count on.
type stage int

// migrating is a service on its way from its callers' breakers to cbproxy's.
type migrating struct {
	t        testing.TB
	name     string
	through  string // its URL at the proxy
	upstream *harness.Upstream
	callers  []*migrant

	mu      sync.Mutex
	stage   stage
	outages []outage
}

// outage is when an upstream may have failed a request. An end of zero is yet to come.
type outage struct{ begin, end time.Time }

func (m *migrating) move(to stage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stage = to
}

func (m *migrating) now() stage {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stage
}

func (m *migrating) die() {
	m.mu.Lock()
	m.outages = append(m.outages, outage{begin: time.Now()}) // first, so that no failure is older than it
	m.mu.Unlock()
	m.upstream.Kill()
}

func (m *migrating) comeBack() {
	m.t.Helper()
	m.upstream.Start()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.outages[len(m.outages)-1].end = time.Now()
}

// mayHaveFailed tells whether a request that was under way in between could have failed without cbproxy.
func (m *migrating) mayHaveFailed(begin, end time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.outages {
		if !o.begin.After(end) && (o.end.IsZero() || !o.end.Before(begin)) {
			return true
		}
	}
	return false
}

// migrant is a caller, which has a breaker of its own until it has none.
type migrant struct {
	service *migrating
	client  *http.Client
	url     atomic.Pointer[string]
	own     atomic.Pointer[gobreaker.CircuitBreaker[harness.Response]] // nil: it has none any more
	opened  atomic.Int64                                               // how often its own breaker did

	calls, answered, stoodIn, refused atomic.Int64
}

var errMigrantFailed = errors.New("the answer is an error")

func newMigrant(m *migrating) *migrant {
	c := &migrant{service: m, client: &http.Client{Transport: &http.Transport{}, Timeout: harness.EventTimeout}}
	direct := m.upstream.URL()
	c.url.Store(&direct)
	c.own.Store(gobreaker.NewCircuitBreaker[harness.Response](gobreaker.Settings{
		Timeout:     50 * time.Millisecond, // so that it tries again all the time
		ReadyToTrip: func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= 3 },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if to == gobreaker.StateOpen {
				c.opened.Add(1)
			}
		},
	}))
	return c
}

// work calls until over is closed.
func (c *migrant) work(over <-chan struct{}) {
	defer c.client.CloseIdleConnections()
	pace := time.NewTicker(2 * time.Millisecond)
	defer pace.Stop()
	for n := 0; ; n++ {
		select {
		case <-over:
			return
		case <-pace.C:
		}
		stage, begin, url := c.service.now(), time.Now(), *c.url.Load()
		r, err := c.call(fmt.Sprintf("%s/slow?for=1ms&n=%d", url, n))
		if now := c.service.now(); now != stage {
			stage = moving
		}
		c.judge(stage, url == c.service.through, begin, r, err)
		c.calls.Add(1)
	}
}

// call asks once, through the caller's own breaker if it has one.
func (c *migrant) call(url string) (harness.Response, error) {
	ask := func() (harness.Response, error) {
		res, err := c.client.Get(url)
		if err != nil {
			return harness.Response{}, err
		}
		defer func() { _ = res.Body.Close() }()
		body, err := io.ReadAll(res.Body)
		r := harness.Response{Status: res.StatusCode, Header: res.Header, Body: string(body)}
		if err == nil && r.Status >= 500 {
			err = errMigrantFailed
		}
		return r, err
	}
	if own := c.own.Load(); own != nil {
		return own.Execute(ask)
	}
	return ask()
}

// judge fails the test if the caller got anything that it would not have got before.
func (c *migrant) judge(s stage, through bool, begin time.Time, r harness.Response, err error) {
	t, fallback := c.service.t, r.Header.Get("X-Fallback")
	switch {
	case errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests):
		c.refused.Add(1)
		if s == enforced {
			t.Errorf("%s: the caller's own breaker refuses what cbproxy answers", c.service.name)
		}
	case err != nil && through && !errors.Is(err, errMigrantFailed):
		t.Errorf("%s: cbproxy has lost a request: %v", c.service.name, err)
	case err != nil && (s == enforced || !c.service.mayHaveFailed(begin, time.Now())):
		t.Errorf("%s: a request failed that would not have before (stage %d): %v, %+v", c.service.name, s, err, r)
	case err != nil:
	case fallback != "" && s == shadowed:
		t.Errorf("%s: a fallback answers in shadow: %+v", c.service.name, r)
	case fallback != "":
		c.stoodIn.Add(1)
	case r.Status != http.StatusOK || r.Body != "done":
		t.Errorf("%s: %+v", c.service.name, r)
	default:
		c.answered.Add(1)
	}
}

const (
	shadowed stage = iota // what the upstream did, and nothing else
	moving                // either, as an edit is on its way
	enforced              // an answer, whatever becomes of the upstream
)
