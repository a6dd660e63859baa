package keyed

import (
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
)

// The breaker of most keys knows of no failure. If it opens by failures and slow calls only, it is not asked for them, which saves most
// of the time of an admission: the entry is quiet, and is itself the breaker.Reporter of its calls. It counts their successes for the
// algorithm, if there is one. The first failure ends that.

// report is the breaker.Reporter of a call that the breaker of an entry has admitted.
type report struct {
	call  breaker.Call
	entry *entry
}

// MakeRevocable implements breaker.Reporter.
func (r *report) MakeRevocable(clientWait func() time.Duration) {
	r.call = r.call.WithRevocablePermit(clientWait)
}

// Success implements breaker.Reporter.
func (r *report) Success(took time.Duration) {
	r.entry.flushPending()
	r.call.Success(took)
	r.entry.settle()
}

// Abandon implements breaker.Reporter.
func (r *report) Abandon(took time.Duration) {
	r.entry.flushPending()
	r.call.Abandon(took)
	r.entry.settle()
}

// settle makes the entry quiet if its breaker is settled, and otherwise ends that. A failure at the same time is either found by the
// second look, or is reported after it and ends the quiet itself.
func (e *entry) settle() {
	b := e.breaker.Load()
	if b == nil || !e.of.byFailures.Load() {
		return
	}
	settled := b.IsSettled()
	e.quiet.Store(settled)
	if settled && !b.IsSettled() {
		e.quiet.Store(false)
	}
}

// Failure implements breaker.Reporter.
func (r *report) Failure(f *events.Failure, took time.Duration) {
	r.entry.flushPending()
	r.call.Failure(f, took)
	r.entry.quiet.Store(false)
}

// RetryAfter implements breaker.Reporter.
func (r *report) RetryAfter(until time.Time) {
	r.call.RetryAfter(until)
	r.entry.quiet.Store(false)
}

// Withdraw implements breaker.Reporter.
func (r *report) Withdraw() { r.call.Withdraw() }

// MakeRevocable implements breaker.Reporter: the call has no permit.
func (e *entry) MakeRevocable(func() time.Duration) {}

// Success implements breaker.Reporter.
func (e *entry) Success(took time.Duration) {
	switch {
	case !e.quiet.Load() || e.isSlow(took): // another call has failed meanwhile, or this one counts like a failure
		e.lateReport().Success(took)
	case e.of.countsSuccesses.Load():
		e.pending.Add(1)
	}
}

func (e *entry) isSlow(took time.Duration) bool {
	return e.of.usesDurations.Load() && took >= e.of.service.SlowCallDuration()
}

// Failure implements breaker.Reporter: the first failure of a key makes its breaker.
func (e *entry) Failure(f *events.Failure, took time.Duration) { e.lateReport().Failure(f, took) }

// RetryAfter implements breaker.Reporter.
func (e *entry) RetryAfter(until time.Time) { e.lateReport().RetryAfter(until) }

// Abandon implements breaker.Reporter.
func (e *entry) Abandon(took time.Duration) {
	if e.isSlow(took) {
		e.lateReport().Abandon(took)
	}
}

// Withdraw implements breaker.Reporter.
func (e *entry) Withdraw() {}

// lateReport returns a report of a call of which the breaker was not asked.
func (e *entry) lateReport() *report {
	r := &report{entry: e}
	if b := e.makeBreaker(); b != nil {
		r.call = b.LateCall()
	}
	return r
}

const (
	// pendingSteps is the number of parts of the window of an algorithm: successes of one part may be counted at once.
	pendingSteps = 64
	// maxPending is the number of successes that are counted at once.
	maxPending = 256
)

// flushOld counts the pending successes if they are many, or old at a time. Breakers.mu is held.
func (e *entry) flushOld(at time.Time) {
	switch n := e.pending.Load(); {
	case n == 0:
		e.pendingSince = at
	case n >= maxPending || at.Sub(e.pendingSince) >= e.of.policy.Window/pendingSteps:
		e.flush()
		e.pendingSince = at
	}
}

// flushPending counts the pending successes.
func (e *entry) flushPending() {
	if e.pending.Load() > 0 {
		e.of.mu.Lock()
		defer e.of.mu.Unlock()
		e.flush()
	}
}

// flush counts the pending successes, as of the last use of the entry. Breakers.mu is held.
func (e *entry) flush() {
	n := e.pending.Swap(0)
	if n == 0 {
		return
	}
	if b := e.makeBreakerLocked(); b != nil {
		b.ObserveSuccesses(int(n), e.lastUsed)
	}
}
