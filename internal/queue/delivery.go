package queue

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"cbproxy/internal/events"
)

// deliver sends one message and sees to what becomes of it.
func (l *line) deliver(p *Policy, e *entry, m *Message) error {
	m.Header.Set(attemptField, fmt.Sprint(e.note.Attempts+1))
	m.Suspect = e.note.suspect()
	heard, passes, start := l.heard(), l.mayPass(e), time.Now()
	answer, err := l.send(m)
	var refused *NotAdmitted
	if errors.As(err, &refused) {
		l.wait(refused.RetryAt, heard)
		return nil
	}
	l.sent(e, time.Since(start))
	switch {
	case err != nil && l.sending.Err() != nil:
		return nil // it may have arrived, and is tried again by whoever comes next
	case err != nil:
		f := failure{reason: events.ReasonReset, problem: err.Error(), passed: passes}
		if failed := new(Failed); errors.As(err, &failed) {
			f.reason, f.unsent = failed.Reason, failed.Unsent
		}
		return l.failure(p, e, f)
	case answer.Status >= 200 && answer.Status < 300:
		l.delivered(e)
		return nil
	case retryable(answer.Status):
		return l.failure(p, e, failure{
			reason: events.ReasonStatus, problem: fmt.Sprintf("status %d", answer.Status), passed: passes,
			retryAfter: answer.RetryAfter, limited: answer.Status == http.StatusTooManyRequests,
		})
	default:
		l.answered(e)
		return l.bury(p, e, CauseRefused, fmt.Sprintf("status %d", answer.Status))
	}
}

// send survives the sender's panic: it would be met again after each restart.
func (l *line) send(m *Message) (answer Answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			l.logger.Error("panic while delivering a queued request", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return l.sender.Send(l.sending, l.service, m)
}

// attemptField is the field that tells an upstream how often a message has been sent.
const attemptField = "X-Delivery-Attempt"

// retryable reports whether a status other than of success may be another one next time.
func retryable(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return status >= 500
}

// settle keeps how the last attempt went, for people to see.
func (l *line) settle(reason events.Reason, problem string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reason, l.problem = reason, problem
}

// answered is for an answer that is no failure.
func (l *line) answered(e *entry) {
	l.settle("", "")
	l.failed, l.paused, l.asked = 0, time.Time{}, false
	l.hasPassed(e)
}

func (l *line) delivered(e *entry) {
	l.answered(e)
	l.passed(e)
	l.counts.delivered.Add(1)
	l.mu.Lock()
	l.unremoved[e.seq] = true
	delete(l.aside, e.seq)
	l.mu.Unlock()
	l.left()
	l.discard(e.seq)
}

// isDelivered reports whether a message is still in the store although it is delivered.
func (l *line) isDelivered(seq uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unremoved[seq]
}

// removing reports whether anything that is delivered is still in the store.
func (l *line) removing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.unremoved) > 0
}

// left counts one message less.
func (l *line) left() {
	if l.depth.Add(-1) == 0 {
		l.logger.Info("the queue is empty again", "delivered", l.counts.delivered.Load(), "dead", l.counts.dead.Load())
	}
	l.changed()
}

// discard removes a message that is delivered. Where that fails it is kept in mind: the cursor
// has passed it.
func (l *line) discard(seq uint64) {
	l.store.Remove(l.service, seq, func(err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if err == nil {
			delete(l.unremoved, seq)
			l.mirror.gone(seq) // only now: as long as it is in the store it may get a copy
			return
		}
		l.leftover = append(l.leftover, seq)
		time.AfterFunc(troublePause, l.nudge)
		if len(l.leftover) == 1 {
			l.logger.Error("what is delivered can't be removed from the queue, and is tried again; if the process ends before, it is delivered again", "error", err)
		}
	})
}

// maxProblem is how much is kept of why an attempt failed: upstreams have a say in it.
const maxProblem = 1 << 10

// failure is an attempt to deliver a message that may succeed later.
type failure struct {
	reason     events.Reason
	problem    string
	unsent     bool          // there was no connection to send it on
	retryAfter time.Duration // what the upstream has asked for, 0 if it did not
	limited    bool          // the answer was that there are too many requests
	passed     bool          // it was sent although one before it fails
}

// failure sees to a message whose delivery may succeed later.
func (l *line) failure(p *Policy, e *entry, f failure) error {
	if len(f.problem) > maxProblem {
		f.problem = f.problem[:maxProblem] + "…"
	}
	e.note.Attempts++
	e.note.LastError = f.problem
	tries := e.note.Attempts
	if !f.unsent {
		if e.note.Failures++; e.note.FirstFailure.IsZero() {
			e.note.FirstFailure = time.Now().UTC()
		}
		tries = e.note.Failures
	}
	if l.unsent && !f.unsent {
		l.failed = 0 // the upstream is back, though it fails
	}
	if !f.passed { // or it is one with the failure of what it has passed
		l.failed++
	}
	l.unsent = f.unsent
	l.counts.retried.Add(1)
	l.settle(f.reason, f.problem)
	l.asked = f.retryAfter > 0
	retryAfter := min(f.retryAfter, maxRetryAfter)
	wait := max(p.wait(l.failed), retryAfter)
	l.paused = time.Now().Add(wait)
	l.letPass(e, &f)
	if e.note.Attempts >= p.MaxAttempts {
		return l.bury(p, e, CauseAttempts, f.problem)
	}
	e.note.NotBefore = time.Time{}
	if !e.trial || !p.Ordered { // or it is sent as soon as those before it are
		e.note.NotBefore = time.Now().Add(max(p.wait(tries), retryAfter)).UTC()
	}
	l.judge(p, e)
	if !e.trial { // the cursor will find that one
		l.lay(p, e)
	}
	l.passed(e)
	l.changed()
	if l.passing.allowed {
		l.passing.unwritten = e // a trial is to come at once
		return nil
	}
	return l.store.Note(l.service, e.seq, e.note.encode())
}

// bury sees to a message that will never be delivered.
func (l *line) bury(p *Policy, e *entry, cause Cause, problem string) error {
	e.note.Cause, e.note.LastError, e.note.Died = cause, problem, time.Now().UTC()
	e.note.NotBefore = time.Time{}
	lost, err := l.store.DeadLetter(l.service, e.seq, e.note.encode(), p.Capacity)
	if err != nil {
		return err
	}
	l.passed(e)
	l.mu.Lock()
	delete(l.aside, e.seq)
	l.mu.Unlock()
	l.counts.dead.Add(1)
	l.counts.lost.Add(uint64(lost))
	l.logger.Warn("a queued request will not be delivered and is kept as a dead letter", "id", formatID(l.service, e.seq), "cause", cause, "last_error", problem, "attempts", e.note.Attempts)
	if lost > 0 {
		l.logger.Error("there are too many dead letters: the oldest are removed", "removed", lost, "capacity", p.Capacity)
	}
	l.left()
	l.mirror.gone(e.seq)
	return nil
}
