package service

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"cbproxy/internal/balance"
	"cbproxy/internal/events"
	"cbproxy/internal/fault"
	"cbproxy/internal/healthcheck"
	"cbproxy/internal/sanitize"
	"cbproxy/internal/upstream"
)

// prober sends active probes: requests that test whether a service's upstream has recovered, while the breaker is half-open. It
// is stopped when its route's configuration is replaced.
type prober struct {
	route  *Route
	check  *healthcheck.Check
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// restartProber stops the prober of the previous configuration and starts that of r, if r has active probes.
func (s *Service) restartProber(r *Route) {
	s.prober.close()
	s.prober = nil
	if !r.Config.Breaker.Probe.Enabled() || r.Config.Breaker.Mode == "off" {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &prober{route: r, check: r.newCheck(r.evaluateProbe), cancel: cancel}
	p.done.Go(func() { p.run(ctx) })
	s.prober = p
}

// close stops the prober and waits until its last probe has been reported. It does nothing if p is nil.
func (p *prober) close() {
	if p != nil {
		p.cancel()
		p.done.Wait()
	}
}

// run probes whenever the breaker is half-open, until ctx is done.
func (p *prober) run(ctx context.Context) {
	service, interval := p.route.Service, p.route.Config.Breaker.Probe.Interval
	for {
		var again <-chan time.Time
		if service.Breaker.State() == events.HalfOpen {
			p.probeOnce(ctx)
			again = time.After(interval) // one success may not be enough, or a client's request still has the permit
		}
		select {
		case <-ctx.Done():
			return
		case <-service.probeSignal:
		case <-again:
		}
	}
}

// probeOnce sends one request, if the breaker admits it, and reports its result.
func (p *prober) probeOnce(ctx context.Context) {
	service := p.route.Service
	call, err := service.Breaker.AllowActiveProbe()
	if err != nil {
		return
	}
	start := time.Now()
	injected := service.Faults.Draw(nil)
	lease, kind, err := p.send(ctx, injected)
	defer lease.Release()
	var later *retryLaterError
	switch {
	case errors.As(err, &later):
		call.RetryAfter(later.until)
		return
	case err != nil && (ctx.Err() != nil || kind == ""):
		call.Cancel()
		return
	}
	service.Observer.Probed(err == nil)
	if err == nil {
		lease.Succeeded()
		call.Success(time.Since(start))
		return
	}
	detail := "probe: "
	if p.check.GRPC {
		detail += "health check: "
	}
	f := &events.Failure{Time: time.Now(), Type: kind, Detail: sanitize.Truncate(detail+injected.Describe(err.Error()), MaxFailureDetail)}
	if injected == nil { // otherwise no endpoint is the cause
		lease.Failed(f)
	}
	service.Observer.Failed(kind, 1)
	service.failures.logFailure(p.route.Logger, service.Name, f)
	call.Failure(f, time.Since(start))
}

// send sends the probe's request to one endpoint, on which it returns the lease. A fault may be injected. It returns the type of the
// upstream's failure, or "" with an error that counts neither as a success nor as a failure.
//
// The endpoint is one that is not ejected or, unless health checks decide that, one whose ejection has ended: while the breaker is
// half-open no client's request could try it, and it may be the only one that has recovered.
func (p *prober) send(ctx context.Context, injected *fault.Fault) (balance.Lease, events.ErrorType, error) {
	rt := p.route
	lease, err := rt.pick(ctx, p.check.Timeout)
	if err != nil {
		return lease, rt.failureOf(err), err
	}
	lease.Pool.DiscardConnections() // connections from before the failure must not decide recovery
	if err := p.check.Do(ctx, lease.Pool, lease.Target, upstream.DoOptions{RoundTrip: injected.RoundTrip}); err != nil {
		return lease, rt.failureOf(err), err
	}
	return lease, "", nil
}

// evaluateProbe evaluates the status of a response to a probe.
func (rt *Route) evaluateProbe(status int, header http.Header) (upstream.ErrorClass, error) {
	if class, until := rt.ClassifyStatus(status, header.Get("Retry-After")); class == StatusRetryAfter {
		return upstream.ErrorClass{}, &retryLaterError{until}
	}
	return rt.evaluateCheck(status, header)
}
