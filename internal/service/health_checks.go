package service

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/balance"
	"cbproxy/internal/events"
	"cbproxy/internal/healthcheck"
	"cbproxy/internal/sanitize"
	"cbproxy/internal/upstream"
	"cbproxy/routes"
)

// healthChecker checks the endpoints of a service by probe.always, whatever the breaker's state and mode. A configuration that changes
// nothing about the checks does not disturb them, however often it is loaded.
type healthChecker struct {
	settings checkSettings
	route    atomic.Pointer[Route] // the current one
	cancel   context.CancelFunc
	done     sync.WaitGroup
}

// checkSettings are what a change of starts the checks anew.
type checkSettings struct {
	probe   routes.Probe
	failMax int
}

// updateHealthChecker puts r into effect for the health checks: it starts, stops or restarts them, or lets them go on.
func (s *Service) updateHealthChecker(r *Route) {
	settings := checkSettings{r.Config.Breaker.Probe, r.Config.Balance.Eject.FailMax}
	if s.healthChecker != nil && s.healthChecker.settings == settings {
		s.healthChecker.route.Store(r)
		return
	}
	s.healthChecker.close()
	s.healthChecker = nil
	if !settings.probe.Always || !settings.probe.Enabled() {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &healthChecker{settings: settings, cancel: cancel}
	c.route.Store(r)
	schedule := healthcheck.Schedule[*balance.Endpoint]{
		Interval: settings.probe.Interval, RetryInterval: settings.probe.Timeout, Retries: settings.failMax,
		Endpoints: func() []*balance.Endpoint { return c.route.Load().Endpoints.Endpoints() },
		Check:     c.check,
	}
	c.done.Go(func() { schedule.Run(ctx) })
	s.healthChecker = c
}

// close ends the checks and waits until the last one has been reported. It does nothing if c is nil.
func (c *healthChecker) close() {
	if c != nil {
		c.cancel()
		c.done.Wait()
	}
}

// check checks an endpoint and reports the result. No faults are injected: no endpoint would be their cause.
//
// The check uses the endpoint's pool, and so over HTTP/2 the connection of clients' requests: an endpoint to which that is dead is of no
// use. It closes no connection that clients use. An ejected endpoint gets a new connection: old ones must not decide its return, and
// clients must not get them after it.
func (c *healthChecker) check(ctx context.Context, e *balance.Endpoint) healthcheck.Result {
	rt := c.route.Load()
	if e.Ejected() {
		e.Pool.DiscardConnections()
	}
	err := rt.newCheck(rt.evaluateCheck).Do(ctx, e.Pool, e.Target, upstream.DoOptions{})
	rt = c.route.Load() // it may have been replaced meanwhile
	if !slices.Contains(rt.Endpoints.Endpoints(), e) {
		e.Pool.Close() // the endpoint's removal may have closed its connections before the check has released its own
		return healthcheck.Unknown
	}
	switch {
	case ctx.Err() != nil:
		return healthcheck.Unknown
	case err == nil:
		rt.Service.Observer.HealthChecked(true)
		rt.Endpoints.Checked(e, nil)
		return healthcheck.Healthy
	case rt.failureOf(err) == "":
		return healthcheck.Unknown
	}
	f := &events.Failure{Time: time.Now(), Type: err.Failure, Detail: sanitize.Truncate("health check: "+err.Error(), MaxFailureDetail)}
	rt.Service.Observer.HealthChecked(false)
	rt.Service.failures.logCheck(rt.Logger, rt.Service.Name, e.URL, f)
	rt.Endpoints.Checked(e, f)
	return healthcheck.Unhealthy
}

// newCheck returns the check that breaker.probe describes.
func (rt *Route) newCheck(evaluate func(status int, header http.Header) (upstream.ErrorClass, error)) *healthcheck.Check {
	c := &rt.Config.Breaker.Probe
	return &healthcheck.Check{Path: c.Path, GRPC: c.GRPC, Timeout: c.Timeout, Via: rt.Via, Evaluate: evaluate}
}

// evaluateCheck evaluates the status of a response to a check. Statuses up to 399 are successes, unless the configuration says otherwise.
func (rt *Route) evaluateCheck(status int, header http.Header) (upstream.ErrorClass, error) {
	switch class, _ := rt.ClassifyStatus(status, header.Get("Retry-After")); {
	case class == StatusIgnored:
		return upstream.ErrorClass{}, fmt.Errorf("status %d is ignored", status)
	case class != StatusSuccess || status > 399:
		return upstream.ErrorClass{Failure: events.ErrorStatus}, fmt.Errorf("status %d", status)
	}
	return upstream.ErrorClass{}, nil
}
