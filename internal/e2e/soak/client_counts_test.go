package soak

import (
	"math"
	"slices"
	"sync"
	"time"
)

// clientCounts counts requests by the results that the clients see. It is safe for concurrent use.
type clientCounts struct {
	mu      sync.Mutex
	results map[string]int              // by a description; guarded by mu
	byRoute map[routeKey]*requestCounts // guarded by mu
	longest time.Duration               // of all requests with a response; guarded by mu

	upstreamLatency durations // of upstream responses in quiet periods
	openLatency     durations // of static responses while the breaker is open
}

// routeKey identifies a service at an instance.
type routeKey struct {
	instance int
	service  string
}

// requestCounts counts the requests of a service at an instance.
type requestCounts struct {
	responses int // requests with a response: the proxy has counted each
	unknown   int // requests without one: the proxy may have counted each
	outcomes  map[outcome]int
	fallbacks map[fallback]int
}

// fallback identifies a strategy and the reason for its use.
type fallback struct{ strategy, reason string }

// of returns the counts for a request. The caller holds c.mu.
func (c *clientCounts) of(req *request) *requestCounts {
	if c.byRoute == nil {
		c.byRoute, c.results = map[routeKey]*requestCounts{}, map[string]int{}
	}
	key := routeKey{req.instance, req.route.service}
	if c.byRoute[key] == nil {
		c.byRoute[key] = &requestCounts{outcomes: map[outcome]int{}, fallbacks: map[fallback]int{}}
	}
	return c.byRoute[key]
}

// add counts a request with a response. description states its result in the summary.
func (c *clientCounts) add(req *request, result outcome, description string, elapsed time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.of(req)
	n.responses++
	n.outcomes[result]++
	if req.strategy != "" {
		n.fallbacks[fallback{req.strategy, req.reason}]++
	}
	c.results[description]++
	c.longest = max(c.longest, elapsed)
}

// addUnknown counts a request without a response, because its client disconnected or its instance was down.
func (c *clientCounts) addUnknown(req *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of(req).unknown++
	if req.instanceDown {
		c.results["no response: instance down"]++
	} else {
		c.results["no response: client disconnected"]++
	}
}

// total returns the number of requests.
func (c *clientCounts) total() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, count := range c.results {
		n += count
	}
	return n
}

// durations collects durations. It is safe for concurrent use.
type durations struct {
	mu      sync.Mutex
	seconds []float32 // guarded by mu
}

func (d *durations) add(value time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seconds = append(d.seconds, float32(value.Seconds()))
}

func (d *durations) len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.seconds)
}

// quantiles returns the given quantiles, each from 0 to 1. They are 0 if there are no durations.
func (d *durations) quantiles(quantiles ...float64) (values []time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.Sort(d.seconds)
	for _, q := range quantiles {
		i := int(math.Ceil(q*float64(len(d.seconds)))) - 1
		if len(d.seconds) == 0 {
			values = append(values, 0)
			continue
		}
		values = append(values, time.Duration(float64(d.seconds[max(i, 0)])*float64(time.Second)))
	}
	return values
}
