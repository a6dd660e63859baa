package keyed

import (
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
)

// The breaker of most keys has no consecutive failures. If it opens by those only, it is not asked, which saves most of the time of
// an admission: the entry is quiet, and is itself the breaker.Reporter of its calls. The first failure ends that.

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
	r.call.Success(took)
	r.entry.settle()
}

// settle makes the entry quiet if its breaker is settled. A failure at the same time is either found by the second look, or is reported
// after it and ends the quiet itself.
func (e *entry) settle() {
	b := e.breaker.Load()
	if b == nil || !e.of.countsFailures.Load() || !b.IsSettled() {
		return
	}
	e.quiet.Store(true)
	if !b.IsSettled() {
		e.quiet.Store(false)
	}
}

// Failure implements breaker.Reporter.
func (r *report) Failure(f *events.Failure, took time.Duration) {
	r.call.Failure(f, took)
	r.entry.quiet.Store(false)
}

// RetryAfter implements breaker.Reporter.
func (r *report) RetryAfter(until time.Time) {
	r.call.RetryAfter(until)
	r.entry.quiet.Store(false)
}

// Abandon implements breaker.Reporter.
func (r *report) Abandon(took time.Duration) { r.call.Abandon(took) }

// Withdraw implements breaker.Reporter.
func (r *report) Withdraw() { r.call.Withdraw() }

// MakeRevocable implements breaker.Reporter: the call has no permit.
func (e *entry) MakeRevocable(func() time.Duration) {}

// Success implements breaker.Reporter. It matters only if another call has failed meanwhile.
func (e *entry) Success(took time.Duration) {
	if !e.quiet.Load() {
		e.lateReport().Success(took)
	}
}

// Failure implements breaker.Reporter: the first failure of a key makes its breaker.
func (e *entry) Failure(f *events.Failure, took time.Duration) { e.lateReport().Failure(f, took) }

// RetryAfter implements breaker.Reporter.
func (e *entry) RetryAfter(until time.Time) { e.lateReport().RetryAfter(until) }

// Abandon implements breaker.Reporter. It matters only to an algorithm.
func (e *entry) Abandon(time.Duration) {}

// Withdraw implements breaker.Reporter.
func (e *entry) Withdraw() {}

// lateReport returns a report of a call of which the breaker was not asked. It has no effect if the breaker has opened since.
func (e *entry) lateReport() *report {
	r := &report{entry: e}
	b := e.makeBreaker()
	if b == nil {
		return r
	}
	switch call, err := b.Allow(); {
	case err != nil:
	case call.State != events.Closed:
		call.Withdraw()
	default:
		r.call = call
	}
	return r
}
