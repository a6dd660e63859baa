package breaker

import (
	"time"

	"cbproxy/internal/breaker/adaptive"
	"cbproxy/internal/events"
)

// The calls of a service can be divided by a key, such as the tenant of a request: see Policy.ByKey. Each key then has a breaker of
// its own, made by NewForKey, and a call is reported to both by Call.WithKey.
//
// The service's breaker counts all calls, but it does not open for all keys because of a single one: if more than three quarters of
// the latest failures are of one key, no limit opens it. The next failure decides again. A failure without a key counts as one of a
// key of its own.

// Reporter receives the result of a call: see the methods of Call with the same names.
type Reporter interface {
	// MakeRevocable is Call.WithRevocablePermit. It is called before the result is reported.
	MakeRevocable(clientWait func() time.Duration)
	Success(took time.Duration)
	Failure(f *events.Failure, took time.Duration)
	Abandon(took time.Duration)
	RetryAfter(until time.Time)
	Withdraw()
}

// NewForKey returns the breaker of one key of a service. Its policy must be one of Policy.ForKey. publish is that of New.
func NewForKey(service *Breaker, policy Policy, publish func(events.Event)) *Breaker {
	b := newBreaker(Environment{Clock: service.env.Clock, Random: service.env.Random}, service.service, policy, publish)
	b.ofService = service
	b.start()
	return b
}

// ForKey returns the policy of the breakers of keys of a service with policy p. They learn nothing: a call is slow from the duration
// on that the service's breaker has learnt. No active probe is sent for a key.
func (p Policy) ForKey() Policy {
	p.ByKey, p.ActiveProbing = false, false
	p.Adaptive, p.SlowCall = adaptive.Options{}, adaptive.SlowCall{}
	return p
}

// WithKey returns a Call of a service that has been admitted for a key, too. Each report on it is also one to r. key identifies the
// key; it is not 0. state is that in which the key's breaker has admitted the call.
func (c Call) WithKey(key uint64, state events.State, r Reporter) Call {
	c.key, c.ofKey = key, r
	if severity(state) > severity(c.State) {
		c.State = state
	}
	return c
}

// severity returns a number that is greater for a state that admits fewer calls.
func severity(s events.State) int {
	switch s {
	case events.Open:
		return 2
	case events.HalfOpen:
		return 1
	}
	return 0
}

// Counts reports whether a report on the call has an effect on the breaker, as far as is known at its admission.
func (c Call) Counts() bool { return c.report != nil }

// OpenOrForced reports whether the breaker is open, and whether its state is forced. It takes no lock.
func (b *Breaker) OpenOrForced() (open, forced bool) {
	p := b.current.Load()
	return p.state == events.Open, p.forced != nil
}

// IsSettled reports whether the breaker admits all calls and knows of no failure that counts, so that a success that is not slow changes
// nothing but the number of successes that the algorithm counts. It applies to policies with Limits.ByFailures.
func (b *Breaker) IsSettled() bool {
	p := b.current.Load()
	if p.state != events.Closed || p.forced != nil || p.ramp || b.hasRetryAfters.Load() || p.engine.cb.Counts().ConsecutiveFailures > 0 {
		return false
	}
	c := p.engine.decider.counts()
	return c.Failures == 0 && c.Slow == 0
}

// ObserveSuccesses counts n successes that ended at a time and of which the breaker has not been asked, because it was settled.
func (b *Breaker) ObserveSuccesses(n int, at time.Time) {
	if p := b.current.Load(); p.state == events.Closed && p.forced == nil {
		p.engine.decider.observeSuccesses(n, at)
	}
}

// ignoring is the engine of calls whose results do not count any more.
var ignoring engine

// LateCall returns a Call for one of which the breaker has not been asked, because it was settled when the call began. If it is not
// closed any more, reports on it are those on a call of an earlier state.
func (b *Breaker) LateCall() Call {
	if b.current.Load().state == events.Closed {
		call, err := b.Allow()
		if err == nil && call.State == events.Closed {
			return call
		}
		call.Withdraw()
	}
	return Call{State: events.Closed, breaker: b, engine: &ignoring, report: func(error) {}}
}

// keyedResults are the keys of the latest failures and slow calls of a closed state. The zero value has none. It is guarded by
// gobreaker's lock.
type keyedResults struct {
	failed, slow *recentKeys // nil: none
	// probe is the first key with a failed probe in a half-open state; 0: none.
	probe uint64
}

// note records the key of a failed or slow call.
func (k *keyedResults) note(o *outcome) {
	if o.failed {
		k.failed = k.failed.add(o.key)
	}
	if o.slow {
		k.slow = k.slow.add(o.key)
	}
}

// dominated reports whether one key has caused that an algorithm opens the breaker with counts.
func (k *keyedResults) dominated(cause events.Cause, counts events.Counts) bool {
	switch cause {
	case events.CauseFailureRatio, events.CauseBurnRate:
		return k.failed.dominated(counts.Failures)
	case events.CauseSlowCallRatio:
		return k.slow.dominated(counts.Slow)
	}
	// The algorithm may go by failures or by durations.
	return counts.Failures+counts.Slow > 0 &&
		(counts.Failures == 0 || k.failed.dominated(counts.Failures)) && (counts.Slow == 0 || k.slow.dominated(counts.Slow))
}

// sparesProbe reports whether the failed probe o does not open the breaker again, because no other key has failed in this half-open
// state. The breaker of that key limits its calls meanwhile.
func (k *keyedResults) sparesProbe(o *outcome) bool {
	if k.probe == 0 {
		k.probe = o.key
	}
	return k.probe == o.key
}

// maxRecentKeys is the number of failures, or slow calls, whose keys are known.
const maxRecentKeys = 32

// recentKeys are the keys of the latest calls of a kind.
type recentKeys struct {
	keys [maxRecentKeys]uint64 // a ring; 0: the call has no key
	n    uint32                // number of calls that were added; only its remainder and whether it is below maxRecentKeys matter
}

// add adds the key of a call to r, which it makes if that is nil.
func (r *recentKeys) add(key uint64) *recentKeys {
	if r == nil {
		r = new(recentKeys)
	}
	r.keys[r.n%maxRecentKeys] = key
	if r.n++; r.n == 2*maxRecentKeys {
		r.n = maxRecentKeys
	}
	return r
}

// dominated reports whether one key has more than three quarters of the last n calls, or of as many as are known.
func (r *recentKeys) dominated(n uint32) bool {
	if r == nil {
		return false
	}
	if n = min(n, r.n, maxRecentKeys); n == 0 {
		return false
	}
	key, votes := uint64(0), 0 // Boyer and Moore: if any key has the majority, it is this one
	for i := range n {
		switch k := r.last(i); {
		case k != 0 && votes == 0:
			key, votes = k, 1
		case k != 0 && k == key:
			votes++
		case votes > 0:
			votes--
		}
	}
	if votes == 0 {
		return false
	}
	calls := uint32(0)
	for i := range n {
		if r.last(i) == key {
			calls++
		}
	}
	return calls*4 > n*3
}

// last returns the key of the call i before the last one.
func (r *recentKeys) last(i uint32) uint64 { return r.keys[(r.n-1-i)%maxRecentKeys] }
