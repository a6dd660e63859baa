package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/upstream"
)

// prober tests the recovery of one service's upstream, in place of clients' requests, while
// its breaker is half-open. It lives as long as its route's configuration.
type prober struct {
	route  *route
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// probe starts the prober that r wants, in place of the one there is.
func (s *service) probe(r *route) {
	s.prober.close()
	s.prober = nil
	if r.config.Breaker.Probe.Path == "" || r.config.Breaker.Mode == "off" {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &prober{route: r, cancel: cancel}
	p.done.Go(func() { p.run(ctx) })
	s.prober = p
}

// close ends the probes and returns once they have reported. A nil prober is fine.
func (p *prober) close() {
	if p != nil {
		p.cancel()
		p.done.Wait()
	}
}

// run probes whenever the breaker is half-open, until ctx is done.
func (p *prober) run(ctx context.Context) {
	service, interval := p.route.service, p.route.config.Breaker.Probe.Interval
	for {
		var again <-chan time.Time
		if service.breaker.State() == events.HalfOpen {
			p.probe(ctx)
			again = time.After(interval) // one success may not be enough, or a client's request still holds the place
		}
		select {
		case <-ctx.Done():
			return
		case <-service.halfOpen:
		case <-again:
		}
	}
}

// probe sends one request and reports what came of it.
func (p *prober) probe(ctx context.Context) {
	service := p.route.service
	call, err := service.breaker.AllowProbe()
	if err != nil {
		return
	}
	limited, cancel := context.WithTimeout(ctx, p.route.config.Breaker.Probe.Timeout)
	defer cancel()
	start := time.Now()
	kind, err := p.ask(limited)
	if err != nil && (ctx.Err() != nil || kind == "") {
		call.Cancel()
		return
	}
	service.observer.Probed(err == nil)
	if err == nil {
		call.Success(time.Since(start))
		return
	}
	f := &events.Failure{Time: time.Now(), Type: kind, Detail: "probe: " + err.Error()}
	service.observer.Failed(kind, 1)
	service.failures.log(p.route.logger, service.name, f)
	call.Failure(f, time.Since(start))
}

// ask sends the probe's request, and returns how the upstream failed; "" with an error that says nothing of it. A
// response's header section tells all, but where a short body is announced that has to come: a stream may last for ever.
func (p *prober) ask(ctx context.Context) (events.ErrorType, error) {
	rt := p.route
	progress, paused := upstream.NotConnected, upstream.Paused()
	ctx = upstream.WithDialDeadline(ctx, time.Now().Add(rt.config.Breaker.Probe.Timeout))
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { progress = upstream.Connected }})
	target := rt.target.Scheme + "://" + rt.target.Host + rt.target.Base + rt.config.Breaker.Probe.Path
	r, err := http.NewRequestWithContext(traced, http.MethodGet, target, nil)
	if err != nil {
		return events.ErrorConnect, fmt.Errorf("make a request of breaker.probe.path: %w", err)
	}
	r.Header.Set("User-Agent", "cbproxy-probe")
	rt.via.addOnce(r.Header)
	rt.pool.renew() // connections from before the failure must not decide recovery
	res, err := rt.pool.transport.Current().RoundTrip(r)
	switch {
	case err != nil && upstream.Paused() > paused:
		rt.service.failedLocally(rt.logger, events.LocalPause, err)
		return "", err
	case err != nil && ctx.Err() != nil:
		return events.ErrorTimeout, fmt.Errorf("no answer within %v", rt.config.Breaker.Probe.Timeout)
	case err != nil:
		return rt.service.failureOf(rt.logger, err, progress), err
	}
	defer func() { _ = res.Body.Close() }() // what is left of it is not wanted
	var broken error
	if res.ContentLength <= maxProbeBody {
		_, broken = io.CopyN(io.Discard, res.Body, res.ContentLength) // keeps the connection, too
	}
	switch {
	case res.StatusCode < 200 || res.StatusCode > 399 || rt.config.Breaker.FailureStatuses.Has(res.StatusCode):
		return events.ErrorStatus, fmt.Errorf("status %d", res.StatusCode)
	case broken != nil && ctx.Err() != nil:
		return events.ErrorTimeout, fmt.Errorf("no whole answer within %v", rt.config.Breaker.Probe.Timeout)
	case broken != nil:
		return rt.service.failureOf(rt.logger, broken, upstream.Responded), broken
	}
	return "", nil
}

// maxProbeBody is the size of a response body that is read so that its connection can be
// used again.
const maxProbeBody = 64 << 10
