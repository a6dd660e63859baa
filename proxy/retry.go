package proxy

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"slices"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/message"
)

// retries is what is left to an exchange of its route's retries.
type retries struct {
	left int
	wait time.Duration // before the last retry
}

// newRetries returns nil if the exchange's request is not to be repeated.
func (x *exchange) newRetries() *retries {
	c, r := &x.route.config.Retry, x.r
	if c.Attempts == 0 {
		return nil
	}
	x.route.service.retryBudget.Deposit(c.Budget, c.Attempts)
	switch {
	case r.Header["Upgrade"] != nil, r.ContentLength > maxReplayed:
		return nil
	case slices.Contains(c.Methods, r.Method), c.IdempotencyKey && r.Header["Idempotency-Key"] != nil:
	default:
		return nil
	}
	return &retries{left: c.Attempts}
}

// askRepeatedly asks the upstream until an attempt is not to be repeated, and returns that
// one's result.
func (x *exchange) askRepeatedly(out *http.Request) (*http.Response, error) {
	body := out.Body
	for {
		a := x.attempt
		res, err := a.askApart(out, body)
		wait, again := a.next()
		if again {
			a.traceRetry(wait)
		}
		if !again || !x.pause(wait) {
			return res, err
		}
		call, refused := x.allow()
		if refused != nil {
			if span := x.span(); span != nil {
				span.Rejected(call.State, refusedFor(refused))
			}
			return res, err // what there is, is all there will be
		}
		if body, again = x.replay.nextReader(); !again {
			call.Cancel()
			return res, err
		}
		if res != nil {
			_ = res.Body.Close() // nobody will read it
		}
		a.cancelled() // unless it has been told; what is given up before its end says nothing
		a.endTrace()
		a.cancel(errEnded)
		x.begin(call)
		x.download.started.Store(false)
		x.idle.Store(false)
		x.setClock(x.remaining())
	}
}

// askApart is ask with a context, a trace and a body that are the attempt's alone.
func (a *attempt) askApart(out *http.Request, body io.ReadCloser) (*http.Response, error) {
	a.Context = httptrace.WithClientTrace(a.Context, new(httptrace.ClientTrace))
	alone := out.WithContext(a)
	if body != nil {
		alone.Body = body
	}
	res, err := a.ask(alone)
	a.informing.Lock()
	a.over = true
	a.informing.Unlock()
	return res, err
}

// next decides whether there is another attempt after a, and how long to wait before it.
func (a *attempt) next() (wait time.Duration, again bool) {
	x := a.x
	c, left := &x.route.config.Retry, x.retries
	if left.left == 0 || !a.repeatable() || x.Err() != nil || !x.replay.whole() {
		return 0, false
	}
	if x.route.config.Breaker.Mode == "enforce" && x.route.service.breaker.State() == events.Open {
		return 0, false
	}
	wait = max(left.backoff(c.Backoff, c.MaxBackoff), message.ParseRetryAfter(a.retryAfter, time.Now()))
	if wait >= x.remaining() {
		return 0, false
	}
	if !x.route.service.retryBudget.TryWithdraw() {
		x.outcome.RetryBudgetSpent = true
		return 0, false
	}
	left.left--
	return wait, true
}

// repeatable reports whether another attempt may fare better. After a timeout there is no
// time left.
func (a *attempt) repeatable() bool {
	if a.status != 0 && slices.Contains(a.x.route.config.Retry.Statuses, a.status) {
		return true
	}
	if a.failure == nil {
		return false
	}
	switch a.failure.Type {
	case events.ErrorConnect, events.ErrorReset, events.ErrorProtocol, events.ErrorTruncated:
		return true
	}
	return false
}

// backoff draws the wait before the next attempt with decorrelated jitter, see
// https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
func (rs *retries) backoff(least, most time.Duration) time.Duration {
	span := 3*max(rs.wait, least) - least
	rs.wait = min(most, least+rand.N(max(span, 1))) // #nosec G404 -- spreads retries; no secret
	return rs.wait
}

// remaining is what is left of the time for the whole exchange.
func (x *exchange) remaining() time.Duration { return x.timeout() - time.Since(x.start) }

// pause waits before the next attempt. It reports false if the exchange is over before.
func (x *exchange) pause(d time.Duration) bool {
	ctx, cancel := context.WithTimeout(x, d)
	defer cancel()
	<-ctx.Done()
	return x.Err() == nil
}
