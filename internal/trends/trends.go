// Package trends samples the counters of services periodically, so that requests do no extra work, and keeps what happened in the last
// hour in bounded memory: for the curves of the dashboard, and for predictions.
package trends

import (
	"context"
	"sync"
	"time"
)

// Interval is the time between two samples. A service has the points of the last hour, about 35 KB.
const (
	Interval  = 5 * time.Second
	maxPoints = int(time.Hour / Interval)
)

// Totals are the cumulative counters of a service.
type Totals struct {
	// The numbers of client requests by outcome.
	Success, Failure, Rejected, Cancelled uint64
	// Fallbacks is the number of responses from a fallback.
	Fallbacks uint64
	// Durations is the cumulative histogram of response times: Durations[i] calls took at most Bounds[i] seconds. The last
	// element has no bound and counts all calls.
	Durations []uint64
	Bounds    []float64
}

// Step is what happened in a service between two samples.
type Step struct {
	// Time is that of the second sample, and Elapsed the time since the first: about Interval, more if the process was paused.
	Time    time.Time
	Elapsed time.Duration
	// Totals are those of the time between the samples.
	Totals
}

// Trends records what happened in the last hour. It is safe for concurrent use.
type Trends struct {
	totals  func() map[string]Totals
	observe func(steps map[string]Step)

	mu       sync.Mutex
	services map[string]*service // guarded by mu
}

// New returns the trends of the services in the result of totals, by name. Run must run to fill them. After each sample it calls observe
// with the step of each service that has been sampled before; a service that is missing may have been removed. observe may be nil.
func New(totals func() map[string]Totals, observe func(steps map[string]Step)) *Trends {
	return &Trends{totals: totals, observe: observe, services: map[string]*service{}}
}

// Run samples the totals periodically until ctx is done.
func (t *Trends) Run(ctx context.Context) {
	t.sample(time.Now())
	ticker := time.NewTicker(Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			t.sample(now)
		}
	}
}

// sample adds a point to the trend of each service and removes services that no longer exist.
func (t *Trends) sample(now time.Time) {
	steps := t.add(now, t.totals())
	if t.observe != nil {
		t.observe(steps)
	}
}

// add adds a sample and returns the steps since the one before.
func (t *Trends) add(now time.Time, totals map[string]Totals) map[string]Step {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range t.services {
		if _, ok := totals[name]; !ok {
			delete(t.services, name)
		}
	}
	steps := make(map[string]Step, len(totals))
	for name, next := range totals {
		s := t.services[name]
		if s == nil {
			t.services[name] = &service{sampledAt: now, last: next}
			continue
		}
		if step, ok := s.step(now, next); ok {
			s.add(step)
			steps[name] = step
		}
	}
	return steps
}

// Since returns the points after the given Unix time, of one service, or of all services if the name is "".
func (t *Trends) Since(after int64, service string) map[string]Trend {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := map[string]Trend{}
	for name, s := range t.services {
		if service == "" || name == service {
			all[name] = s.since(after)
		}
	}
	return all
}

// Counts returns the numbers of successes and failures of a service in a time of at most an hour before its last sample; 0 for an
// unknown service.
func (t *Trends) Counts(service string, window time.Duration) (success, failure uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.services[service]; s != nil {
		return s.counts(window)
	}
	return 0, 0
}
