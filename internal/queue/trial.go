package queue

import (
	"time"

	"cbproxy/internal/queue/disk"
)

// A message that fails while the upstream processes other messages is a poison message. It must not block an ordered queue, and must not count
// against the upstream. To distinguish it from an upstream that fails for every message, the worker sends another message: after
// suspectFailures failures over at least suspectDuration a message is a suspected poison message, a suspect for short, and right after
// each further failure one later message, the trial, is sent. If the trial fails, too, the upstream is considered to be failing, and the
// suspect keeps blocking an ordered queue. If the trial is answered, the suspect is sent again at once, and if it fails again, it is set
// aside: it is retried after its own delays and blocks nothing.
//
// Because the suspect is always sent right before the trial, an upstream that recovers receives the messages in order, unless it
// recovers between the two.
const (
	suspectFailures  = 2
	setAsideFailures = 3 // if a trial was answered before the last one
)

// suspectDuration is how long a message must have failed to be a suspect. If an upstream fails only briefly, but for many requests, these
// failures are not caused by the messages. It is slightly less than the default backoff.
const suspectDuration = 700 * time.Millisecond

// maxTrialDelay is how long after the suspect's failure a trial may start.
const maxTrialDelay = time.Second

// successCheckInterval is how often the worker checks whether clients' requests succeed.
const successCheckInterval = time.Second

// trialCandidates is the number of messages from which a trial is chosen, and trialScan the number that is read to find them.
const (
	trialCandidates = 16
	trialScan       = 512
)

// suspectPauseFactor bounds the time that suspects take from other messages: after each delivery of a suspect no other suspect is sent
// for this many times its duration, so that suspects take at most 1/5 of the time.
const suspectPauseFactor = 4

// suspect reports whether the message is a suspected poison message: it has failed at least suspectFailures times, and the first time at
// least suspectDuration ago. Its further failures do not count against the upstream.
func (d *deliveryState) suspect() bool {
	return d.Failures >= suspectFailures && time.Since(d.FirstFailure).Abs() >= suspectDuration // the clock may have been set back
}

// trialState is the part of a worker's state that concerns suspects and trials. Only the worker's goroutine uses it.
type trialState struct {
	nonBlocking            delayHeap // messages that do not block later ones: those set aside and, in an unordered queue, suspects
	nonBlockingPausedUntil time.Time // none of them is sent before
	allowed                bool      // a trial may be sent despite the pause after a failure
	decidedAt              time.Time // when allowed was last set or cleared
	waitForClientSuccess   bool      // a trial is allowed once the upstream answers a client's request, see checkClientSuccess
	blockedHead            uint64    // the message that was first in the queue when the last trial was answered
}

// dueHeap returns a heap whose first message is due, nil if there is none.
func (s *schedule) dueHeap(now time.Time) *delayHeap {
	switch nonBlocking := s.trials.nonBlocking; {
	case len(s.delayed) > 0 && !s.delayed[0].until.After(now):
		return &s.delayed
	case len(nonBlocking) > 0 && !nonBlocking[0].until.After(now) && !s.trials.nonBlockingPausedUntil.After(now):
		return &s.trials.nonBlocking
	}
	return nil
}

// nextDue returns when the first delayed message is due.
func (s *schedule) nextDue() (until time.Time) {
	if len(s.trials.nonBlocking) > 0 {
		until = s.trials.nonBlocking[0].until
		if s.trials.nonBlockingPausedUntil.After(until) {
			until = s.trials.nonBlockingPausedUntil
		}
	}
	if len(s.delayed) > 0 && (until.IsZero() || s.delayed[0].until.Before(until)) {
		until = s.delayed[0].until
	}
	return until
}

// exemptFromPause reports whether e may be sent during the pause after the failure of another message.
func (s *schedule) exemptFromPause(e *entry) bool { return s.trials.allowed && !e.delivery.suspect() }

// decideTrial allows a trial after e has failed, if e is a suspect and was no trial itself.
func (w *worker) decideTrial(e *entry, f *failure) {
	w.trials.allowed = !f.sentDuringPause && !f.notCausedByMessage && e.delivery.suspect()
	w.trials.waitForClientSuccess = !w.trials.allowed && !f.sentDuringPause && f.retryAfter > 0 && !f.status429
	w.trials.decidedAt = time.Now()
}

// checkClientSuccess allows a trial despite a Retry-After if the upstream has answered a client's request since, because then the
// Retry-After may concern only the failed message. It returns how long to wait before the next call.
func (w *worker) checkClientSuccess() (interval time.Duration) {
	if !w.trials.waitForClientSuccess {
		return maxWait
	}
	if !w.sender.LastSuccess(w.service).After(w.trials.decidedAt) {
		return successCheckInterval
	}
	w.trials.allowed, w.trials.waitForClientSuccess = true, false
	return maxWait
}

// endTrialWindow processes that e was sent. No further trial is allowed if e was sent in place of one: it is a trial, or, in an unordered
// queue, any message that is no suspect. If e is a suspect, the messages in nonBlocking are paused.
func (w *worker) endTrialWindow(e *entry, took time.Duration) {
	if w.exemptFromPause(e) {
		w.trials.allowed = false
	}
	if e.delivery.suspect() {
		w.trials.nonBlockingPausedUntil = time.Now().Add(suspectPauseFactor * took)
	}
}

// removeHead makes the worker choose another message after e was processed.
func (s *schedule) removeHead(e *entry) {
	if !e.trial {
		s.head = nil
		return
	}
	s.readAhead = nil // it was read before the trial was sent and may contain it
}

// skipTrial makes the worker skip a trial that needs no further processing when it reads it again, because it is after the cursor.
func (s *schedule) skipTrial(e *entry) {
	if s.skip == nil {
		s.skip = map[uint64]bool{}
	}
	s.skip[e.seq] = true
}

// finishTrial makes the suspect at the head of the queue due at once after a trial was answered.
func (w *worker) finishTrial(e *entry) {
	if !e.trial {
		return
	}
	w.skipTrial(e)
	switch {
	case w.head != nil:
		w.trials.blockedHead = w.head.seq
	case len(w.delayed) > 0:
		w.trials.blockedHead = w.delayed[0].seq
	default:
		return
	}
	if len(w.trials.nonBlocking) < maxDelayed { // otherwise it cannot be set aside and would be sent after every trial
		w.delayed.makeDue(w.trials.blockedHead)
	}
}

// maybeSetAside sets e aside if it fails while trials are answered.
func (w *worker) maybeSetAside(p *Policy, e *entry) {
	if !p.Ordered || e.delivery.SetAside || e.trial || e.delivery.Failures < setAsideFailures || w.trials.blockedHead != e.seq || len(w.trials.nonBlocking) >= maxDelayed {
		return
	}
	e.delivery.SetAside = true
	w.markSetAside(e.seq)
	w.logger.Warn("queued request fails while others are delivered, no longer blocking the queue",
		"id", formatID(w.service, e.seq), "attempts", e.delivery.Attempts, "last_error", e.delivery.LastError)
}

// mayBeOvertaken reports whether a trial may be sent before e. e must have failed.
func (p *Policy) mayBeOvertaken(e *entry) bool {
	return e.delivery.suspect() || !p.Ordered && e.delivery.Failures > 0
}

// chooseTrial returns a trial in place of e, if there is one that has failed less often, and otherwise e and wait. It returns nil and
// how long to wait if nothing may be sent now.
func (w *worker) chooseTrial(p *Policy, e *entry, wait time.Duration) (*entry, time.Duration, error) {
	if delay := w.untilBreakerRetry(); delay > 0 {
		if e != nil {
			return nil, min(delay, p.remaining(e)), nil
		}
		return nil, min(delay, wait), nil
	}
	trial, err := w.findTrial()
	if err != nil || trial == nil || e != nil && trial.delivery.Failures >= e.delivery.Failures {
		return e, wait, err
	}
	if p.Ordered && !w.pauseRequested && time.Since(w.trials.decidedAt) > maxTrialDelay {
		// Send the suspect first, because the upstream may have recovered.
		w.trials.allowed, w.pausedUntil = false, time.Time{}
		if len(w.delayed) > 0 {
			w.delayed.makeDue(w.delayed[0].seq)
		}
		return nil, 0, nil
	}
	trial.expired = p.remaining(trial) <= 0
	return trial, 0, nil
}

// findTrial returns the message after the cursor that has failed least often, among the first trialCandidates that are no suspects. It
// returns nil if there is none.
func (w *worker) findTrial() (best *entry, err error) {
	now := time.Now()
	candidates := 0
	for after, read := w.cursor, 0; read < trialScan && candidates < trialCandidates; {
		var records []disk.Record
		if records, err = w.store.Read(w.service, after, readBatch, readBytes); err != nil || len(records) == 0 {
			break
		}
		for i := range records {
			e := w.entryOf(records[i])
			if e.delivery.suspect() || e.delivery.blocksNothing() || w.skip[e.seq] {
				continue
			}
			if candidates++; candidates > trialCandidates {
				break
			}
			if !e.delivery.NotBefore.After(now) && (best == nil || e.delivery.Failures < best.delivery.Failures) && !w.isDropped(e.seq) {
				best = &e
			}
		}
		after = records[len(records)-1].Seq
		read += len(records)
	}
	if best != nil {
		best.trial = true
	}
	return best, err
}
