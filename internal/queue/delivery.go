package queue

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/sanitize"
)

// deliver sends one message and processes the outcome.
func (w *worker) deliver(p *Policy, e *entry, m *Message) error {
	m.Header.Set(attemptField, fmt.Sprint(e.delivery.Attempts+1))
	m.SuspectedPoison = e.delivery.suspect()
	breakerEvents, duringPause, start := w.breakerEventCount(), w.exemptFromPause(e), time.Now()
	answer, err := w.send(m)
	var notAdmitted *NotAdmitted
	if errors.As(err, &notAdmitted) {
		w.waitForBreaker(notAdmitted.RetryAt, breakerEvents)
		return nil
	}
	w.endTrialWindow(e, time.Since(start))
	switch {
	case err != nil && w.sendCtx.Err() != nil:
		return nil // it may have been processed, and is sent again after the restart
	case err != nil:
		f := failure{reason: events.ReasonReset, problem: err.Error(), sentDuringPause: duringPause}
		if failed := new(Failed); errors.As(err, &failed) {
			if failed.Unsendable {
				return w.deadLetter(p, e, CauseRefused, sanitize.Truncate("cannot be sent: "+f.problem, maxErrorBytes))
			}
			f.reason, f.notCausedByMessage = failed.Reason, failed.NotCausedByMessage
		}
		return w.handleFailure(p, e, f)
	case answer.Status >= 200 && answer.Status < 300:
		w.finishDelivery(e)
		return nil
	case retryable(answer.Status):
		return w.handleFailure(p, e, failure{
			reason: events.ReasonStatus, problem: cmp.Or(answer.Detail, fmt.Sprintf("status %d", answer.Status)), sentDuringPause: duringPause,
			retryAfter: answer.RetryAfter, status429: answer.Status == http.StatusTooManyRequests,
		})
	default:
		w.resetFailures(e)
		return w.deadLetter(p, e, CauseRefused, fmt.Sprintf("status %d", answer.Status))
	}
}

// send calls the sender and turns its panic into an error: a message that makes the sender panic must not end the process after each
// restart.
func (w *worker) send(m *Message) (answer Answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			w.logger.Error("panic while delivering a queued request", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return w.sender.Send(w.sendCtx, w.service, m)
}

// attemptField is the header field with the number of the attempt, starting at 1.
const attemptField = "X-Delivery-Attempt"

// retryable reports whether a message that was answered with this status, which is not 2xx, is sent again.
func retryable(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return status >= 500
}

// resetFailures resets the failure state after a response that is no failure of the upstream.
func (w *worker) resetFailures(e *entry) {
	w.setLastError("", "")
	w.failures, w.pausedUntil, w.pauseRequested = 0, time.Time{}, false
	w.finishTrial(e)
}

// finishDelivery resets the failure state and removes e after its delivery.
func (w *worker) finishDelivery(e *entry) {
	w.resetFailures(e)
	delete(w.unwritten.bySeq, e.seq)
	w.removeHead(e)
	w.counts.delivered.Add(1)
	w.mu.Lock()
	w.deliveredInStore[e.seq] = true
	delete(w.setAside, e.seq)
	w.mu.Unlock()
	w.countRemoval()
	w.removeDelivered(e.seq)
}

// countRemoval decrements the depth.
func (w *worker) countRemoval() {
	if w.depth.Add(-1) == 0 {
		w.logger.Info("queue is empty", "delivered", w.counts.delivered.Load(), "dead", w.counts.dead.Load())
	}
	w.markChanged()
}

// removeDelivered removes a delivered message from the store. It retries later if that fails.
func (w *worker) removeDelivered(seq uint64) {
	w.store.Remove(w.service, seq, func(err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if err == nil {
			delete(w.deliveredInStore, seq)
			w.mirror.RecordRemoved(seq) // not earlier, because a message in the store may get a copy
			return
		}
		w.failedRemovals = append(w.failedRemovals, seq)
		time.AfterFunc(storeRetryDelay, w.Notify)
		if len(w.failedRemovals) == 1 {
			w.logger.Error("cannot remove delivered requests from disk, retrying", "effect", "delivered again after a restart", "error", err)
		}
	})
}

// maxRetryAfter bounds the Retry-After of an upstream.
const maxRetryAfter = time.Hour

// maxErrorBytes bounds the stored error of an attempt, part of which an upstream can determine.
const maxErrorBytes = 1 << 10

// failure describes a failed attempt that is repeated.
type failure struct {
	reason             events.Reason
	problem            string
	notCausedByMessage bool          // see Failed
	retryAfter         time.Duration // from Retry-After, 0 if there was none
	status429          bool          // the status was 429
	// sentDuringPause is whether the message was sent while exemptFromPause was true for it, during the pause after another message's
	// failure. It is true for each trial, and for a message that became the head while a trial was allowed (in an unordered queue).
	sentDuringPause bool
}

// handleFailure schedules the next attempt for e, or makes it a dead letter after the last one.
func (w *worker) handleFailure(p *Policy, e *entry, f failure) error {
	f.problem = sanitize.Truncate(f.problem, maxErrorBytes)
	f.retryAfter = min(f.retryAfter, maxRetryAfter)
	// Each step uses what the previous ones have set.
	tries := e.delivery.recordFailure(&f)
	w.pauseAfterFailure(p, &f)
	w.setLastError(f.reason, f.problem)
	w.decideTrial(e, &f)
	if e.delivery.Attempts >= p.MaxAttempts {
		return w.deadLetter(p, e, CauseAttempts, f.problem)
	}
	w.counts.retried.Add(1)
	w.scheduleRetry(p, e, &f, tries)
	w.removeHead(e)
	w.markChanged()
	w.unwritten.set(e)
	if !w.trials.allowed { // otherwise after the trial, because the write takes two fsyncs and would delay it
		w.writeStates()
	}
	return nil
}

// recordFailure counts a failed attempt. It returns the number of failures that determines the delay before the next attempt.
func (d *deliveryState) recordFailure(f *failure) (tries int) {
	d.Attempts++
	d.LastError = f.problem
	if f.notCausedByMessage {
		return d.Attempts
	}
	if d.Failures++; d.FirstFailure.IsZero() {
		d.FirstFailure = time.Now().UTC()
	}
	return d.Failures
}

// pauseAfterFailure begins the pause of all messages after a failure.
func (s *schedule) pauseAfterFailure(p *Policy, f *failure) {
	if s.lastNotCausedByMessage && !f.notCausedByMessage {
		s.failures = 0 // the upstream is reachable again
	}
	if !f.sentDuringPause { // otherwise the failure that began the pause is counted already
		s.failures++
	}
	s.lastNotCausedByMessage = f.notCausedByMessage
	s.pauseRequested = f.retryAfter > 0
	s.pausedUntil = time.Now().Add(max(p.delay(s.failures), f.retryAfter))
}

// scheduleRetry sets when e may be sent again, sets it aside if necessary, and adds it to the delayed messages.
func (w *worker) scheduleRetry(p *Policy, e *entry, f *failure, tries int) {
	e.delivery.NotBefore = time.Time{}
	if !e.trial || !p.Ordered { // in an ordered queue a trial has no delay of its own: it is sent after the messages before it
		e.delivery.NotBefore = time.Now().Add(max(p.delay(tries), f.retryAfter)) // not in UTC, which would remove the monotonic time
	}
	w.maybeSetAside(p, e)
	if !e.trial { // a trial will be read again
		w.deferMessage(p, e)
	}
}

// deadLetter makes e a dead letter.
func (w *worker) deadLetter(p *Policy, e *entry, cause Cause, problem string) error {
	e.delivery.DeadCause, e.delivery.LastError, e.delivery.DeadSince = cause, problem, time.Now().UTC()
	e.delivery.NotBefore = time.Time{}
	lost, err := w.store.DeadLetter(w.service, e.seq, e.delivery.encode(), p.Capacity)
	if err != nil {
		return w.postponeDeadLetter(p, e, err)
	}
	delete(w.unwritten.bySeq, e.seq)
	w.removeHead(e)
	w.mu.Lock()
	delete(w.setAside, e.seq)
	w.mu.Unlock()
	w.counts.dead.Add(1)
	w.counts.lost.Add(uint64(lost))
	w.logger.Warn("queued request became a dead letter", "id", formatID(w.service, e.seq), "cause", cause, "last_error", problem, "attempts", e.delivery.Attempts)
	if lost > 0 {
		w.logger.Error("too many dead letters, oldest removed", "removed", lost, "capacity", p.Capacity)
	}
	w.countRemoval()
	w.mirror.RecordRemoved(e.seq)
	return nil
}
