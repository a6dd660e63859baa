package healthcheck_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/healthcheck"
)

// checks records the checks of a schedule. Safe for concurrent use.
type checks struct {
	mu        sync.Mutex
	began     time.Time
	endpoints []string
	result    map[string]healthcheck.Result // of each endpoint; Healthy if it has none
	duration  map[string]time.Duration
	started   map[string][]time.Duration // since began
	cancelled map[string]int
}

// runSchedule runs a schedule with an interval of 10s and up to 4 failures in a row with 1s between them. The returned function ends it
// and waits for that.
func runSchedule(t *testing.T, endpoints ...string) (c *checks, stop func()) {
	c = &checks{
		began: time.Now(), endpoints: endpoints, result: map[string]healthcheck.Result{}, duration: map[string]time.Duration{},
		started: map[string][]time.Duration{}, cancelled: map[string]int{},
	}
	s := healthcheck.Schedule[string]{Interval: 10 * time.Second, RetryInterval: time.Second, Retries: 4, Endpoints: c.list, Check: c.check}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Run(ctx)
	}()
	return c, func() { cancel(); <-ended }
}

func (c *checks) list() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.endpoints
}

// set replaces the list of endpoints.
func (c *checks) set(endpoints ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endpoints = endpoints
}

func (c *checks) setResult(endpoint string, r healthcheck.Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.result[endpoint] = r
}

func (c *checks) setDuration(endpoint string, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.duration[endpoint] = d
}

func (c *checks) check(ctx context.Context, e string) healthcheck.Result {
	c.mu.Lock()
	c.started[e] = append(c.started[e], time.Since(c.began))
	duration := c.duration[e]
	result, known := c.result[e]
	if !known {
		result = healthcheck.Healthy
	}
	c.mu.Unlock()
	select {
	case <-time.After(duration):
		return result
	case <-ctx.Done():
		c.mu.Lock()
		defer c.mu.Unlock()
		c.cancelled[e]++
		return healthcheck.Unknown
	}
}

// take returns the starts of the checks of an endpoint since the last call.
func (c *checks) take(e string) []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.started[e]
	c.started[e] = nil
	return all
}

func TestChecksAreSpreadOverTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var endpoints []string
		for i := range 64 {
			endpoints = append(endpoints, fmt.Sprint(i))
		}
		c, stop := runSchedule(t, endpoints...)
		defer stop()
		time.Sleep(100 * time.Second)
		var firsts []time.Duration
		for _, e := range endpoints {
			starts := c.take(e)
			if n := len(starts); n < 8 || n > 12 || starts[0] > 10*time.Second {
				t.Fatalf("endpoint %s is checked at %v", e, starts)
			}
			for i := 1; i < len(starts); i++ {
				if d := starts[i] - starts[i-1]; d < 9*time.Second || d > 11*time.Second {
					t.Errorf("endpoint %s is checked at %v", e, starts)
				}
			}
			firsts = append(firsts, starts[0])
		}
		slices.Sort(firsts)
		if early, late := firsts[0], firsts[63]; early > 5*time.Second || late < 5*time.Second {
			t.Errorf("all first checks are between %v and %v", early, late)
		}
	})
}

func TestFailedChecksAreRepeatedSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, stop := runSchedule(t, "a")
		defer stop()
		for range 2 {
			c.setResult("a", healthcheck.Unhealthy)
			time.Sleep(60 * time.Second)
			starts := c.take("a")
			first := starts[0]
			if want := []time.Duration{first, first + time.Second, first + 2*time.Second, first + 3*time.Second}; len(starts) < 7 || !slices.Equal(starts[:4], want) {
				t.Errorf("checks at %v, want 4 within 3s, then others", starts)
			}
			for i := 4; i < len(starts); i++ {
				if starts[i]-starts[i-1] < 9*time.Second {
					t.Errorf("checks at %v, want intervals of 10s after the fourth", starts)
				}
			}
			c.setResult("a", healthcheck.Unknown) // changes nothing
			time.Sleep(60 * time.Second)
			if n := len(c.take("a")); n > 7 {
				t.Errorf("%d checks without a result in 60s", n)
			}
			c.setResult("a", healthcheck.Healthy)
			time.Sleep(30 * time.Second)
			c.take("a")
		}
	})
}

func TestHangingCheckDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, stop := runSchedule(t, "a", "b")
		c.setDuration("a", time.Hour)
		time.Sleep(100 * time.Second)
		if a, b := len(c.take("a")), len(c.take("b")); a != 1 || b < 8 {
			t.Errorf("%d checks of the endpoint that hangs, %d of the other", a, b)
		}
		stop()
		if c.cancelled["a"] != 1 {
			t.Error("the end of the schedule has not cancelled the check")
		}
	})
}

func TestEndpointsComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, stop := runSchedule(t, "a", "b")
		defer stop()
		c.setDuration("a", time.Hour)
		time.Sleep(20 * time.Second)
		c.set("b", "c")
		time.Sleep(11 * time.Second) // it may take a second to notice
		if n := len(c.take("c")); n == 0 {
			t.Error("a new endpoint is not checked within the interval")
		}
		if c.cancelled["a"] != 1 {
			t.Error("the check of an endpoint that is gone goes on")
		}
		c.take("a")
		time.Sleep(60 * time.Second)
		if n := len(c.take("a")); n != 0 {
			t.Errorf("%d checks of an endpoint that is gone", n)
		}
		c.set()
		time.Sleep(time.Second)
		c.take("b")
		time.Sleep(60 * time.Second)
		if n := len(c.take("b")); n != 0 {
			t.Errorf("%d checks without endpoints", n)
		}
	})
}

func TestShortIntervalIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		s := healthcheck.Schedule[string]{Interval: 1, Endpoints: func() []string { return []string{"a"} }, Check: func(context.Context, string) healthcheck.Result {
			n++
			return healthcheck.Healthy
		}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s.Run(ctx)
		if n > 112 {
			t.Errorf("%d checks in a second", n)
		}
	})
}
