package service

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/fault"
	"cbproxy/internal/upstream"
)

// prober sends active probes: requests that test whether a service's upstream has recovered, while the breaker is half-open. It
// is stopped when its route's configuration is replaced.
type prober struct {
	route  *Route
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// restartProber stops the prober of the previous configuration and starts that of r, if r has active probes.
func (s *Service) restartProber(r *Route) {
	s.prober.close()
	s.prober = nil
	if r.Config.Breaker.Probe.Path == "" || r.Config.Breaker.Mode == "off" {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &prober{route: r, cancel: cancel}
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
	kind, err := p.send(ctx, injected)
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
		call.Success(time.Since(start))
		return
	}
	f := &events.Failure{Time: time.Now(), Type: kind, Detail: "probe: " + injected.Describe(err.Error())}
	service.Observer.Failed(kind, 1)
	service.failures.logFailure(p.route.Logger, service.Name, f)
	call.Failure(f, time.Since(start))
}

// send sends the probe's request, into which a fault may be injected. It returns the type of the upstream's failure, or "" with an
// error that counts neither as a success nor as a failure. The probe succeeds with the header section of the response, except that a
// short body of known length must arrive as well: a stream may never end.
func (p *prober) send(ctx context.Context, injected *fault.Fault) (events.ErrorType, error) {
	rt := p.route
	target := rt.Target.Scheme + "://" + rt.Target.Host + rt.Target.Base + rt.Config.Breaker.Probe.Path
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return events.ErrorConnect, fmt.Errorf("make a request of breaker.probe.path: %w", err)
	}
	r.Header.Set("User-Agent", "cbproxy-probe")
	rt.Via.AddOnce(r.Header)
	rt.Pool.DiscardConnections() // connections from before the failure must not decide recovery
	res, reqErr := rt.Pool.Do(r, rt.Config.Breaker.Probe.Timeout, upstream.DoOptions{RoundTrip: injected.RoundTrip})
	if reqErr != nil {
		return rt.failureOf(reqErr), reqErr
	}
	defer res.Close()
	switch class, until := rt.ClassifyStatus(res.StatusCode, res.Header.Get("Retry-After")); {
	case class == StatusRetryAfter:
		return "", &retryLaterError{until}
	case class == StatusIgnored:
		return "", fmt.Errorf("status %d is ignored", res.StatusCode)
	case class == StatusFailure || res.StatusCode > 399:
		return events.ErrorStatus, fmt.Errorf("status %d", res.StatusCode)
	}
	if res.ContentLength >= 0 && res.ContentLength <= maxDiscarded {
		if bodyErr := res.Discard(maxDiscarded); bodyErr != nil { // reading the body also allows the connection to be reused
			return rt.failureOf(bodyErr), bodyErr
		}
	}
	return "", nil
}
