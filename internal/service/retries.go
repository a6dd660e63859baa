package service

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/limit"
	"cbproxy/internal/upload"
)

// Retries are the further attempts that a request may have. Methods are not safe for concurrent use.
type Retries struct {
	route     *Route
	remaining int           // attempts after failed ones
	hedges    int           // attempts beside another one: 0 or 1
	lastWait  time.Duration // before the latest attempt
}

// NewRetries returns the further attempts that r may have, and adds its share to the budgets. It returns nil if there are none and the
// attempts have no time limit of their own.
func (rt *Route) NewRetries(r *http.Request) *Retries {
	c, hedge := &rt.Config.Retry, &rt.Config.Hedge
	hedges := hedge.After > 0
	switch {
	case hedges: // hedge.max_ratio is the limit of a service with little traffic
		rt.Service.RetryBudget.Deposit(c.Budget, max(c.Attempts, limit.BudgetReserve))
		rt.Service.HedgeBudget.Deposit(hedge.MaxRatio, 1)
	case c.Attempts > 0:
		rt.Service.RetryBudget.Deposit(c.Budget, c.Attempts)
	}
	retries := Retries{route: rt}
	if rt.mayRepeat(r) {
		retries.remaining = c.Attempts
		if hedges {
			retries.hedges = 1
		}
	}
	if !retries.MayRepeat() && rt.Config.AttemptTimeout == 0 {
		return nil
	}
	used := retries // a variable of its own, so that a request without retries allocates nothing
	return &used
}

// mayRepeat reports whether a request may be sent to an upstream more than once.
func (rt *Route) mayRepeat(r *http.Request) bool {
	c := &rt.Config.Retry
	if r.Header["Upgrade"] != nil || r.ContentLength > upload.MaxReplay {
		return false
	}
	return slices.Contains(c.Methods, r.Method) || c.IdempotencyKey && r.Header["Idempotency-Key"] != nil
}

// IsRepeatable reports whether another attempt may succeed after one with a status, 0 if it got no response, and a failure, which may be nil.
// timedOut means that attempt_timeout has passed, and not the timeout of the request. A failure of type idle is that of a stream of which
// nothing has been sent to the client.
func (rt *Route) IsRepeatable(status int, f *events.Failure, timedOut bool) bool {
	if status != 0 && slices.Contains(rt.Config.Retry.Statuses, status) {
		return true
	}
	if f == nil {
		return false
	}
	switch f.Type {
	case events.ErrorConnect, events.ErrorReset, events.ErrorProtocol, events.ErrorTruncated, events.ErrorIdle:
		return true
	case events.ErrorTimeout:
		return timedOut
	}
	return false
}

// MayRepeat reports whether there may be another attempt. The receiver may be nil.
func (rs *Retries) MayRepeat() bool { return rs != nil && rs.remaining+rs.hedges > 0 }

// Remaining returns how many attempts may follow failed ones. The receiver may be nil.
func (rs *Retries) Remaining() int {
	if rs == nil {
		return 0
	}
	return rs.remaining
}

// MayHedge reports whether an attempt may be made beside another one.
func (rs *Retries) MayHedge() bool { return rs.hedges > 0 }

// Take takes an attempt of the remaining ones and of the budget. It returns false if the budget is spent.
func (rs *Retries) Take() bool {
	if !rs.route.Service.RetryBudget.TryWithdraw() {
		return false
	}
	rs.remaining--
	return true
}

// TakeHedge takes an attempt beside another one, of the budgets of hedges and of retries. It returns false if one of them is spent;
// retriesSpent reports whether it is that of retries.
func (rs *Retries) TakeHedge() (ok, retriesSpent bool) {
	s := rs.route.Service
	switch {
	case !s.HedgeBudget.TryWithdraw():
		return false, false
	case !s.RetryBudget.TryWithdraw():
		return false, true
	}
	rs.hedges = 0
	return true, false
}

// Backoff returns a random wait before the next attempt, with decorrelated jitter:
// https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
func (rs *Retries) Backoff() time.Duration {
	c := &rs.route.Config.Retry
	span := 3*max(rs.lastWait, c.Backoff) - c.Backoff
	rs.lastWait = min(c.MaxBackoff, c.Backoff+rand.N(max(span, 1))) // #nosec G404 -- spreads retries; no secret
	return rs.lastWait
}
