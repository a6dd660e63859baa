package proxy

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"slices"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/http1"
	"cbproxy/internal/message"
	"cbproxy/internal/upload"
	"cbproxy/internal/upstream"
)

// retryState is the state of the attempts of an exchange that may have several, or whose attempts have a time limit.
type retryState struct {
	remaining int           // attempts
	hedges    int           // that may be sent: 0 or 1
	lastWait  time.Duration // before the latest attempt
}

// newRetryState returns the state of a request, and adds its share to the budgets. It returns nil if the request has one attempt without a
// time limit.
func (x *exchange) newRetryState() *retryState {
	c, hedge, s := &x.route.Config.Retry, &x.route.Config.Hedge, x.route.Service
	hedges := hedge.After > 0
	if c.Attempts > 0 || hedges {
		s.RetryBudget.Deposit(c.Budget, max(c.Attempts, 1))
	}
	if hedges {
		s.HedgeBudget.Deposit(hedge.MaxRatio, 1)
	}
	var state retryState
	if x.isRepeatable() {
		state.remaining = c.Attempts
		if hedges {
			state.hedges = 1
		}
	}
	if state == (retryState{}) && x.route.Config.AttemptTimeout == 0 {
		return nil
	}
	return &state
}

// isRepeatable reports whether the request may be sent to an upstream more than once.
func (x *exchange) isRepeatable() bool {
	c, r := &x.route.Config.Retry, x.r
	if r.Header["Upgrade"] != nil || r.ContentLength > upload.MaxReplay {
		return false
	}
	return slices.Contains(c.Methods, r.Method) || c.IdempotencyKey && r.Header["Idempotency-Key"] != nil
}

// mayRepeat reports whether there may be another attempt. rs may be nil.
func (rs *retryState) mayRepeat() bool { return rs != nil && rs.remaining+rs.hedges > 0 }

// doWithRetries makes attempts until one is not to be repeated, and returns its result.
func (x *exchange) doWithRetries(out *http.Request) (*http.Response, error) {
	body := out.Body
	defer func() { x.attempt.reportHeldBack() }()
	for {
		res, err := x.attempt.doAttempt(out, body)
		a := x.attempt // of a hedge, if it was faster
		wait, again := a.decideRetry()
		if again {
			a.traceRetry(wait)
		}
		if !again {
			return res, err
		}
		restoreTimer := x.limitRetries()
		if !x.sleep(wait) {
			return res, err
		}
		call, rejection := a.allowNext()
		if rejection != nil {
			if span := x.span(); span != nil {
				span.Rejected(call.State, rejectionReason(rejection))
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

// allowNext asks the breaker to admit the attempt after a. If the failure of a is held back, the next attempt has its call: the breaker
// is told how the last attempt ended, which is what the client sees.
func (a *attempt) allowNext() (breaker.Call, error) {
	if a.heldBack > 0 {
		return a.call, nil
	}
	return a.x.allow()
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
	started, isStream := x.download.started.Load(), x.idleTimerActive.Load()
	x.ResetTimer(x.remaining())
	x.download.started.Store(false)
	x.idleTimerActive.Store(false)
	return func() {
		if isStream {
			x.ResetTimer(x.route.Config.IdleTimeout)
		}
		x.download.started.Store(started)
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
	a.startTimeout()
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
	c, retries := &x.route.Config.Retry, x.retries
	if retries.remaining == 0 || !a.repeatable() || x.Err() != nil || !x.upload.Replayable() {
		return 0, false
	}
	if x.route.Config.Breaker.Mode == "enforce" && x.route.IsOpen(x.r.Header) {
		return 0, false
	}
	wait = max(retries.backoff(c.Backoff, c.MaxBackoff), message.ParseRetryAfter(a.retryAfter, time.Now()))
	if a.pushback.Given {
		wait = a.pushback.Wait // gRFC A6: instead of the backoff
	}
	if wait >= x.remaining() {
		return 0, false
	}
	if !x.route.Service.RetryBudget.TryWithdraw() {
		x.outcome.RetryBudgetSpent = true
		return 0, false
	}
	retries.remaining--
	return wait, true
}

// repeatable reports whether another attempt may succeed. After a timeout of the exchange there is no time left for one. A gRPC response is
// repeated only if the upstream asks for it.
func (a *attempt) repeatable() bool {
	if a.pushback.Given {
		return a.pushback.Retry && a.failure != nil
	}
	if a.status != 0 && slices.Contains(a.x.route.Config.Retry.Statuses, a.status) {
		return true
	}
	if a.failure == nil {
		return false
	}
	switch a.failure.Type {
	case events.ErrorConnect, events.ErrorReset, events.ErrorProtocol, events.ErrorTruncated:
		return true
	case events.ErrorTimeout:
		return context.Cause(a) == errAttemptTimeout
	}
	return false
}

// backoff returns a random wait before the next attempt, with decorrelated jitter:
// https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
func (rs *retryState) backoff(base, maxWait time.Duration) time.Duration {
	span := 3*max(rs.lastWait, base) - base
	rs.lastWait = min(maxWait, base+rand.N(max(span, 1))) // #nosec G404 -- spreads retries; no secret
	return rs.lastWait
}

// sleep waits for d before the next attempt. It reports false if the exchange ends first.
func (x *exchange) sleep(d time.Duration) bool {
	ctx, cancel := context.WithTimeout(x, d)
	defer cancel()
	<-ctx.Done()
	return x.Err() == nil
}
