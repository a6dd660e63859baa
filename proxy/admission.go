package proxy

import (
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/upload"
)

// allow asks the breaker to admit the next attempt. A probe that may have to wait for its request body can be replaced by
// another request meanwhile. A request that began under a configuration which rejects nothing is admitted even if the breaker's
// policy is already that of the next configuration: only that one has the fallback for a rejection.
func (x *exchange) allow() (call breaker.Call, err error) {
	arrived := x.upload.Arrived()
	if call, err = x.route.Allow(x.r.Header, x.began, arrived); !arrived && call.State == events.HalfOpen {
		call = call.WithRevocablePermit(x.clientTime)
	}
	if err != nil && x.route.Config.Breaker.Mode != "enforce" {
		return breaker.Call{State: call.State}, nil
	}
	return call, err
}

// admit is allow for the first attempt. In the half-open state a short request body is read first, so that a slow client does
// not occupy a probe's permit. ok is false if the body did not arrive and the request has been answered.
func (x *exchange) admit() (call breaker.Call, err error, ok bool) {
	call, err = x.allow()
	if call.State != events.HalfOpen || !x.mayPrefetch() {
		return call, err, true
	}
	call.Withdraw()
	x.startTimer()
	if err := x.upload.Prefetch(); err != nil {
		x.outcome.State, x.outcome.Result = call.State, events.ResultCancelled
		x.respondToIncompleteUpload()
		return call, nil, false
	}
	call, err = x.allow()
	return call, err, true
}

// clientTime returns how long the exchange has waited for its client: to send the request's body, and to take the response's.
// Safe for concurrent use.
func (x *exchange) clientTime() time.Duration {
	now := time.Since(x.began)
	waited := x.download.ClientWait(now)
	if !x.upload.Arrived() {
		waited += x.upload.ClientWait(now)
	}
	return waited
}

// mayPrefetch reports whether the request's body is to be read before the request is admitted as a probe: it is short, the
// client sends it without waiting for a 100 (Continue), and the breaker can reject the request.
func (x *exchange) mayPrefetch() bool {
	c, n := &x.route.Config.Breaker, x.r.ContentLength
	return c.Mode == "enforce" && !c.Probe.Enabled() && n > 0 && n <= upload.MaxPrefetch && x.r.Header["Expect"] == nil && !x.upload.Arrived()
}
