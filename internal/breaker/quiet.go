package breaker

import "sync/atomic"

// quietCalls counts successes that change nothing but the numbers of calls that are learnt: the evidence is 0, and the duration is not
// needed. They take no lock and do not ask for the time; learning counts them later, together. At most a few thousandths of the calls of
// an hour wait for that.
type quietCalls struct {
	// engine is that of the current closed state while its successes are quiet; otherwise nil.
	engine atomic.Pointer[engine]
	// left is the number of successes that may still be counted here before a duration is needed. Calls at the same time may go below 0.
	left atomic.Int64
	// counted is the value of left as of the last take or start. Guarded by learning.mu.
	counted int64
}

// count counts a call of e and reports whether nothing else is to be done.
func (q *quietCalls) count(e *engine, o *outcome) bool {
	if o.failed || o.injected || o.learnt > 0 || q.engine.Load() != e || q.left.Load() <= 0 {
		return false
	}
	q.left.Add(-1)
	return true
}

// needDuration reports whether the duration of the next success is needed.
func (q *quietCalls) needDuration() bool { return q.left.Load() <= 0 }

// take returns the number of calls that have been counted since the last take. learning.mu is held.
func (q *quietCalls) take() int64 {
	left := q.left.Load()
	n := q.counted - left
	q.counted = left
	return n
}

// start lets n successes be counted from now on. learning.mu is held.
func (q *quietCalls) start(n int64) {
	if more := n - q.counted; more != 0 {
		q.left.Add(more)
		q.counted = n
	}
}

// setEngine sets the engine. learning.mu is held.
func (q *quietCalls) setEngine(e *engine) {
	if q.engine.Load() != e {
		q.engine.Store(e)
	}
}
