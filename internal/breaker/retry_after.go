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
	until  time.Time   // the latest time that they named
	keys   *recentKeys // of the calls; nil: their keys do not matter
}

// add counts an answer to a call with a key that named until. It returns the number of consecutive answers so far and the latest time
// that they named, and if byKey is set whether they are dominated by one key.
func (r *retryAfterRow) add(until time.Time, key uint64, byKey bool) (length int, latest time.Time, dominated bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.length++
	if until.After(r.until) {
		r.until = until
	}
	if byKey {
		r.keys = r.keys.add(key)
		dominated = r.keys.dominated(maxRecentKeys)
	}
	return r.length, r.until, dominated
}

// reset begins a new row.
func (r *retryAfterRow) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.length, r.until, r.keys = 0, time.Time{}, nil
}

// RetryAfter reports that the upstream answered and asked for no call before until. The call counts neither as success nor as
// failure. The breaker opens after Policy.RetryAfter such reports without a success or failure in between, until the latest time
// that they named, at most RetryAfterMax from when they did. If it is open for this reason already, a later time prolongs that.
// Other than the reports of results, this one has an effect even if the breaker has changed its state since, because it is about
// the future.
func (c Call) RetryAfter(until time.Time) {
	c.record(events.ResultCancelled, "", 0)
	if c.report == nil {
		return
	}
	b := c.breaker
	c.reportOutcome(outcomeCancelled, outcomeCancelled, "", 0) // before the breaker opens: a probe returns its permit
	if c.ofKey != nil {
		c.ofKey.RetryAfter(until)
	}
	policy, now := b.policy.Load(), b.env.now()
	if policy.RetryAfter <= 0 || policy.Mode == Off {
		return
	}
	// The limit applies to each answer. Otherwise one that named a time far ahead would prolong the open period with every later
	// answer, however short a delay that names.
	if limit := now.Add(policy.RetryAfterMax); until.After(limit) {
		until = limit
	}
	length, latest, dominated := b.retryAfters.add(until, c.key, policy.ByKey)
	b.hasRetryAfters.Store(true)
	if length < policy.RetryAfter || dominated {
		return
	}
	d := min(latest.Sub(now), policy.RetryAfterMax) // the limit may have been lowered since
	if d <= 0 {
		return
	}
	o := StateOverride{State: events.Open, Duration: d, NamedEnd: true, Cause: events.CauseRetryAfter}
	b.setStateIf(o, func() bool {
		switch p := b.current.Load(); {
		case p.forced != nil:
			return false
		case p.state == events.Open:
			return p.namedEnd && p.until.Before(now.Add(d))
		}
		return true
	}, func() {})
}

// endRetryAfterRow begins a new row if there is one.
func (b *Breaker) endRetryAfterRow() {
	if b.hasRetryAfters.Load() {
		b.hasRetryAfters.Store(false)
		b.retryAfters.reset()
	}
}
