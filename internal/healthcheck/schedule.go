package healthcheck

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Result is the result of a check.
type Result int

// The results of a check.
const (
	Unknown   Result = iota // the check counts neither as a success nor as a failure
	Healthy                 // the endpoint is healthy
	Unhealthy               // it is not
)

// Schedule checks endpoints periodically. An endpoint has at most one check at a time, which limits their number. Checks are spread over
// the interval, so that neither the endpoints of one instance nor the instances that share an endpoint check at the same time.
type Schedule[E comparable] struct {
	// Interval is the mean time between the starts of two checks of an endpoint, at least MinInterval. The first one begins within
	// Interval. A check that takes longer delays the next one.
	Interval time.Duration
	// RetryInterval is the time from the end of a failed check to the next one, if it is less than Interval. It is used until Retries
	// checks in a row have failed: an endpoint that fails is found out quickly, and one that goes on failing is not checked more often
	// than others.
	RetryInterval time.Duration
	Retries       int
	// Endpoints returns the current endpoints. An endpoint that is not among them any more is not checked, and its check in progress is
	// cancelled.
	Endpoints func() []E
	// Check checks an endpoint. It is called on a goroutine of its own and must return soon after ctx is done.
	Check func(ctx context.Context, e E) Result
}

// MinInterval is the shortest mean time between two checks of an endpoint.
const MinInterval = 10 * time.Millisecond

// maxRefresh is the longest time between two calls of Schedule.Endpoints.
const maxRefresh = time.Second

// jitter is the largest share of the interval by which a check comes earlier or later.
const jitter = 0.1

// Run checks until ctx is done, and returns when no check is in progress any more. It may be called once at a time.
func (s *Schedule[E]) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	r := run[E]{Schedule: s, ctx: ctx, plans: map[E]*plan{}, finished: make(chan finished[E])}
	defer func() {
		cancel()
		r.checks.Wait()
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-r.finished:
			r.finish(f)
		case <-timer.C:
		}
		timer.Reset(time.Until(r.startDue()))
	}
}

// run is a call of Run.
type run[E comparable] struct {
	*Schedule[E]
	ctx      context.Context
	plans    map[E]*plan
	checks   sync.WaitGroup
	finished chan finished[E]
}

// plan is what is planned for an endpoint.
type plan struct {
	due      time.Time
	started  time.Time
	cancel   context.CancelFunc // of the check in progress; nil: there is none
	failures int                // checks in a row
}

// finished is a check that has ended.
type finished[E comparable] struct {
	endpoint E
	plan     *plan
	result   Result
}

// startDue starts the checks that are due, and returns when to call it again.
func (r *run[E]) startDue() time.Time {
	now, endpoints := time.Now(), r.Endpoints()
	next := now.Add(min(r.interval(), maxRefresh))
	for _, e := range endpoints {
		p := r.plans[e]
		if p == nil {
			p = &plan{due: now.Add(time.Duration(rand.Float64() * float64(r.interval())))} // #nosec G404 -- spreads checks; no secret
			r.plans[e] = p
		}
		switch {
		case p.cancel != nil:
		case p.due.After(now):
			if p.due.Before(next) {
				next = p.due
			}
		default:
			r.start(e, p, now)
		}
	}
	for e, p := range r.plans {
		if !slices.Contains(endpoints, e) {
			p.end()
			delete(r.plans, e)
		}
	}
	return next
}

func (r *run[E]) interval() time.Duration { return max(r.Interval, MinInterval) }

// start starts a check of e.
func (r *run[E]) start(e E, p *plan, now time.Time) {
	ctx, cancel := context.WithCancel(r.ctx)
	p.started, p.cancel = now, cancel
	r.checks.Go(func() {
		result := r.Check(ctx, e)
		select {
		case r.finished <- finished[E]{e, p, result}:
		case <-r.ctx.Done():
			cancel()
		}
	})
}

// finish plans the next check after f.
func (r *run[E]) finish(f finished[E]) {
	f.plan.end()
	switch f.result {
	case Healthy:
		f.plan.failures = 0
	case Unhealthy:
		f.plan.failures++
	}
	spread := 1 + jitter*(2*rand.Float64()-1) // #nosec G404 -- spreads checks; no secret
	f.plan.due = f.plan.started.Add(time.Duration(float64(r.interval()) * spread))
	if soon := time.Now().Add(r.RetryInterval); f.result == Unhealthy && f.plan.failures < r.Retries && soon.Before(f.plan.due) {
		f.plan.due = soon
	}
}

// end ends the check in progress, if there is one.
func (p *plan) end() {
	if p.cancel != nil {
		p.cancel()
		p.cancel = nil
	}
}
