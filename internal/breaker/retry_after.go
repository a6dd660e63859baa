package breaker

import (
	"sync"
	"time"

	"cbproxy/internal/events"
)

// retryAfterRow counts consecutive answers that asked for no call before a time. The zero value has counted none.
type retryAfterRow struct {
	mu     sync.Mutex
	length int
	until  time.Time // the latest time that they named
}

// add counts an answer that named until. It returns the number of consecutive answers so far and the latest time that they named.
func (r *retryAfterRow) add(until time.Time) (length int, latest time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.length++
	if until.After(r.until) {
		r.until = until
	}
	return r.length, r.until
}

// reset begins a new row.
func (r *retryAfterRow) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.length, r.until = 0, time.Time{}
}

// RetryAfter reports that the upstream answered and asked for no call before until. The call counts neither as success nor as failure.
// The breaker opens after Policy.RetryAfter such reports without another one in between, until the latest time that they named or
// RetryAfterMax from now. If it is open for this reason already, a later time prolongs that.
func (c Call) RetryAfter(until time.Time) {
	if c.report == nil {
		return
	}
	b := c.breaker
	c.report(outcomeCancelled) // before the breaker opens: a probe returns its permit
	length, latest := b.retryAfters.add(until)
	b.hasRetryAfters.Store(true)
	policy, now := b.policy.Load(), time.Now()
	if policy.RetryAfter <= 0 || length < policy.RetryAfter || policy.Mode == Off {
		return
	}
	d := min(latest.Sub(now), policy.RetryAfterMax)
	if d <= 0 {
		return
	}
	o := StateOverride{State: events.Open, Duration: d, Cause: events.CauseRetryAfter}
	b.SetStateIf(o, func(s events.BreakerStatus) bool {
		switch {
		case s.Forced != nil:
			return false
		case s.State == events.Open:
			return s.Cause == events.CauseRetryAfter && s.RetryAt.Before(now.Add(d))
		}
		return true
	})
}

// endRetryAfterRow begins a new row if there is one.
func (b *Breaker) endRetryAfterRow() {
	if b.hasRetryAfters.Load() {
		b.hasRetryAfters.Store(false)
		b.retryAfters.reset()
	}
}
