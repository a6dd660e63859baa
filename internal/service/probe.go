package service

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"cbproxy/internal/events"
)

// prober tests the recovery of one service's upstream while its breaker is half-open, instead of clients' requests. It exists
// as long as its route's configuration.
type prober struct {
	route  *Route
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// probe starts the prober of r, and ends the previous one.
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

// close ends the prober and returns when its last probe has been reported. A nil prober is valid.
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

// probe sends one request and reports its result.
func (p *prober) probeOnce(ctx context.Context) {
	service := p.route.Service
	call, err := service.Breaker.AllowActiveProbe()
	if err != nil {
		return
	}
	start := time.Now()
	kind, err := p.send(ctx)
	if err != nil && (ctx.Err() != nil || kind == "") {
		call.Cancel()
		return
	}
	service.Observer.Probed(err == nil)
	if err == nil {
		call.Success(time.Since(start))
		return
	}
	f := &events.Failure{Time: time.Now(), Type: kind, Detail: "probe: " + err.Error()}
	service.Observer.Failed(kind, 1)
	service.Failures.Log(p.route.Logger, service.Name, f)
	call.Failure(f, time.Since(start))
}

// send sends the probe's request, and returns how the upstream failed; "" with an error that counts neither as a success nor
// as a failure. The header section decides, except that a short body of known length has to arrive: a stream may last for ever.
func (p *prober) send(ctx context.Context) (events.ErrorType, error) {
	rt := p.route
	target := rt.Target.Scheme + "://" + rt.Target.Host + rt.Target.Base + rt.Config.Breaker.Probe.Path
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return events.ErrorConnect, fmt.Errorf("make a request of breaker.probe.path: %w", err)
	}
	r.Header.Set("User-Agent", "cbproxy-probe")
	rt.Via.AddOnce(r.Header)
	rt.Pool.DiscardConnections() // connections from before the failure must not decide recovery
	res, failed := rt.Pool.Do(r, rt.Config.Breaker.Probe.Timeout, nil)
	if failed != nil {
		return rt.failureOf(failed), failed
	}
	defer res.Close()
	if rt.Config.Breaker.FailureStatuses.Has(res.StatusCode) || res.StatusCode > 399 {
		return events.ErrorStatus, fmt.Errorf("status %d", res.StatusCode)
	}
	if res.ContentLength >= 0 && res.ContentLength <= maxDiscarded {
		if broken := res.Discard(maxDiscarded); broken != nil { // reading the body keeps the connection, too
			return rt.failureOf(broken), broken
		}
	}
	return "", nil
}
