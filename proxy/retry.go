package proxy

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/http1"
	"cbproxy/internal/message"
	"cbproxy/internal/service"
	"cbproxy/internal/upstream"
)

// doWithRetries makes attempts until one is not to be repeated, and returns its result.
func (x *exchange) doWithRetries(out *http.Request) (*http.Response, error) {
	body := out.Body
	defer func() { x.attempt.reportHeldBack() }()
	for {
		res, err := x.attempt.doAttempt(out, body)
		a := x.attempt // of a hedge, if it was faster
		wait, again := a.decideRetry()
		if !again {
			return res, err
		}
		a.traceRetry(wait)
		restoreTimer := x.limitRetries()
		if !x.sleep(wait) {
			return res, err
		}
		call, rejection := a.allowNext()
		if rejection != nil {
			if span := x.span(); span != nil {
				span.Rejected(call.State, service.RejectionReason(rejection))
			}
			restoreTimer()
			return res, err // the previous attempt's
		}
		if body, again = x.upload.NewReader(); !again {
			a.withdrawNext(call)
			restoreTimer()
			return res, err
		}
		if res != nil {
			_ = res.Body.Close() // it is not read
		}
		a.heldBack = 0
		x.tried = append(x.tried, a.lease.Endpoint)
		a.end()
		a.cancel(errExchangeDone)
		x.beginAttempt(call)
	}
}

// allowNext asks the breaker to admit the attempt after a. If the failure of a is held back, the next attempt has its call: the outcome
// of the last attempt, which is what the client sees, is reported to the breaker.
func (a *attempt) allowNext() (breaker.Call, error) {
	switch {
	case a.heldBack == 0:
		return a.x.allow()
	case a.admissionEnded():
		return breaker.Call{State: events.Open}, breaker.ErrOpen
	}
	return a.call, nil
}

// admissionEnded reports whether the breaker has opened since it admitted the attempt, and would reject it now.
func (a *attempt) admissionEnded() bool {
	x := a.x
	if x.route.Config.Breaker.Mode != "enforce" {
		return false
	}
	return x.route.IsOpen(x.r.Header) || a.call.State == events.Closed && x.route.Service.Breaker.State() == events.HalfOpen
}

// withdrawNext gives back what allowNext has returned.
func (a *attempt) withdrawNext(call breaker.Call) {
	if a.heldBack == 0 {
		call.Withdraw()
	}
}

// limitRetries makes the timer limit the exchange again: after the header section of a stream it has been the idle timeout. The
// returned function undoes that, for a response that is sent to the client after all.
func (x *exchange) limitRetries() (undo func()) {
	started, isStream := x.download.Started(), x.idleTimerActive.Load()
	x.ResetTimer(x.remaining())
	x.download.SetStarted(false)
	x.idleTimerActive.Store(false)
	return func() {
		if isStream {
			x.ResetTimer(x.route.Config.IdleTimeout)
		}
		x.download.SetStarted(started)
		x.idleTimerActive.Store(isStream)
	}
}

// doAttempt is do with a context, a trace and a body that only this attempt uses.
func (a *attempt) doAttempt(out *http.Request, body io.ReadCloser) (*http.Response, error) {
	a.Context = httptrace.WithClientTrace(a.Context, new(httptrace.ClientTrace))
	request := out.WithContext(a)
	u := *out.URL // the transport may still be writing the previous attempt's request
	request.URL = &u
	if body != nil {
		request.Body = body
	}
	a.startTimer()
	defer func() { a.x.attempt.setReturned() }()
	if a.x.mayHedge() {
		return a.x.doHedged(request)
	}
	return a.do(request)
}

// Value implements context.Context. It returns what the transports look up, in place of the exchange.
func (a *attempt) Value(key any) any {
	switch key {
	case http1.HooksKey{}:
		return a
	case upstream.DialDeadline:
		return a.limits.dial
	case upstream.ConnectDeadline:
		return a.limits.connect
	}
	return a.Context.Value(key)
}

// decideRetry decides whether another attempt follows a, and how long to wait before it.
func (a *attempt) decideRetry() (wait time.Duration, again bool) {
	x := a.x
	if x.retries.Remaining() == 0 || !a.repeatable() || x.Err() != nil || !x.upload.Replayable() {
		return 0, false
	}
	if x.route.Config.Breaker.Mode == "enforce" && x.route.IsOpen(x.r.Header) {
		return 0, false
	}
	wait = max(x.retries.Backoff(), message.ParseRetryAfter(a.retryAfter, time.Now()))
	if a.pushback.Given {
		wait = a.pushback.Wait // gRFC A6: instead of the backoff
	}
	if wait >= x.remaining() {
		return 0, false
	}
	if !x.retries.Take() {
		x.outcome.RetryBudgetSpent = true
		return 0, false
	}
	return wait, true
}

// repeatable reports whether another attempt may succeed. After a timeout of the exchange there is no time left for one. A gRPC response is
// repeated only if the upstream asks for it.
func (a *attempt) repeatable() bool {
	if a.pushback.Given {
		return a.pushback.Retry && a.failure != nil
	}
	return a.x.route.IsRepeatable(a.status, a.failure, context.Cause(a) == errAttemptTimeout)
}

// sleep waits for d before the next attempt. It reports false if the exchange ends first.
func (x *exchange) sleep(d time.Duration) bool {
	ctx, cancel := context.WithTimeout(x, d)
	defer cancel()
	<-ctx.Done()
	return x.Err() == nil
}
