package proxy

import (
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
)

// allow asks the breaker to admit the next attempt. A probe that may have to wait for its request body can be replaced by
// another request meanwhile.
func (x *exchange) allow() (breaker.Call, error) {
	b := x.route.service.breaker
	if x.upload.isComplete() {
		return b.Allow()
	}
	call, err := b.AllowBeforeUpload()
	if call.State == events.HalfOpen {
		call = call.Revocable(x.clientTime)
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
	call.Cancel()
	x.startTimer()
	if err := x.upload.prefetch(); err != nil {
		x.outcome.State, x.outcome.Result = call.State, events.ResultCancelled
		x.answerIncompleteUpload()
		return call, nil, false
	}
	call, err = x.allow()
	return call, err, true
}

// clientTime returns how long the exchange has waited for its client: to send the request's body, and to take the response's.
// Safe for concurrent use.
func (x *exchange) clientTime() time.Duration {
	now := time.Since(x.began)
	waited := x.download.waited(now)
	if !x.upload.isComplete() {
		waited += x.upload.waited(now)
	}
	return waited
}
