package queue

import (
	"time"

	"cbproxy/internal/queue/disk"
)

// A message whose deliveries fail is distinguished from an upstream that fails by trying another one: after
// suspectAfter failures within suspectFor or longer it is a suspect, and right after each further failure one message behind it
// is sent, a trial. If the trial fails as well, the upstream is taken to be at fault and the suspect
// goes on blocking an ordered queue. If the trial is answered, the suspect is sent again at once, and
// if it fails again, set aside: it is tried again after its own waits, and blocks nothing.
//
// As the suspect is always sent right before the trial, an upstream that recovers gets messages in
// their order, unless it recovers between the two.
const (
	suspectAfter = 2 // failures
	asideAfter   = 3 // failures, if another message was answered before the last one
)

// suspectFor is how long a message must have failed to be a suspect: an upstream that fails for a moment, and gets
// many requests in it, says nothing about any of them. It is a little less than the default backoff.
const suspectFor = 700 * time.Millisecond

// trialWithin is how long after the suspect's failure a trial may begin.
const trialWithin = time.Second

// refutePause is how often it is looked whether clients' requests succeed.
const refutePause = time.Second

// How many messages that are no suspects a trial is chosen from, and how many are read for that.
const (
	trialChoice = 16
	trialRead   = 512
)

// asideShare bounds the time that deliveries of suspects take from the others: after each they
// wait for that many times as long as it took.
const asideShare = 4

// suspect reports whether a failure of the message says nothing about the upstream any more.
func (n *note) suspect() bool {
	return n.Failures >= suspectAfter && time.Since(n.FirstFailure).Abs() >= suspectFor // the clock may have been set back
}

// passing is what a line knows about messages that others may pass. It belongs to the line's
// goroutine.
type passing struct {
	aside     restingHeap // wait and block nothing: those set aside; where order does not matter, suspects
	asideFrom time.Time   // none of them is sent before
	allowed   bool        // one message may be sent in spite of the pause after a failure
	since     time.Time   // when that was allowed, or refused
	refutable bool        // the upstream says that it can't take anything for a time, which one request alone has heard
	passed    uint64      // the message that a trial has passed last
	unwritten *entry      // its note is to be written after the trial, so that this comes at once
}

// due returns the heap whose first message may be tried, nil if there is none.
func (l *line) due(now time.Time) *restingHeap {
	switch aside := l.passing.aside; {
	case len(l.resting) > 0 && !l.resting[0].until.After(now):
		return &l.resting
	case len(aside) > 0 && !aside[0].until.After(now) && !l.passing.asideFrom.After(now):
		return &l.passing.aside
	}
	return nil
}

// nextDue returns when the first that rests may be tried.
func (l *line) nextDue() (until time.Time) {
	if len(l.passing.aside) > 0 {
		until = l.passing.aside[0].until
		if l.passing.asideFrom.After(until) {
			until = l.passing.asideFrom
		}
	}
	if len(l.resting) > 0 && (until.IsZero() || l.resting[0].until.Before(until)) {
		until = l.resting[0].until
	}
	return until
}

// mayPass reports whether e may be sent although the pause after another's failure is not over.
func (l *line) mayPass(e *entry) bool { return l.passing.allowed && !e.note.suspect() }

// letPass allows one message to pass e, which has just failed, if e may be what makes it fail. What
// was let pass lets nothing pass.
func (l *line) letPass(e *entry, f *failure) {
	l.passing.allowed = !f.passed && !f.unsent && e.note.suspect()
	l.passing.refutable = !l.passing.allowed && !f.passed && f.retryAfter > 0 && !f.limited
	l.passing.since = time.Now()
}

// refute allows a trial in spite of a Retry-After, which is not only for the message that got it, if the upstream
// has answered a client's request since. It returns how long to wait before it is called again.
func (l *line) refute() (again time.Duration) {
	if !l.passing.refutable {
		return longestWait
	}
	if !l.sender.LastSuccess(l.service).After(l.passing.since) {
		return refutePause
	}
	l.passing.allowed, l.passing.refutable = true, false
	return longestWait
}

// writeNote writes what letPass has left for later.
func (l *line) writeNote() error {
	e := l.passing.unwritten
	if e == nil {
		return nil
	}
	l.passing.unwritten = nil
	return l.store.Note(l.service, e.seq, e.note.encode())
}

// sent notes that e was sent, which took a time.
func (l *line) sent(e *entry, took time.Duration) {
	if l.mayPass(e) {
		l.passing.allowed = false
	}
	if e.note.suspect() {
		l.passing.asideFrom = time.Now().Add(asideShare * took)
	}
}

// passed is for e that is not next any more.
func (l *line) passed(e *entry) {
	if !e.trial {
		l.head = nil
		return
	}
	l.ahead = nil // is from before it was sent
}

// hasPassed notes that a trial was answered, so that the one that it has passed is tried again.
func (l *line) hasPassed(e *entry) {
	if !e.trial {
		return
	}
	if l.skipped == nil {
		l.skipped = map[uint64]bool{}
	}
	l.skipped[e.seq] = true // the cursor has not passed it
	switch {
	case l.head != nil:
		l.passing.passed = l.head.seq
	case len(l.resting) > 0:
		l.passing.passed = l.resting[0].seq
	default:
		return
	}
	if len(l.passing.aside) < maxResting { // or it would be tried after each
		l.resting.hurry(l.passing.passed)
	}
}

// judge sets e aside if it fails while others are answered.
func (l *line) judge(p *Policy, e *entry) {
	if !p.Ordered || e.note.Aside || e.trial || e.note.Failures < asideAfter || l.passing.passed != e.seq || len(l.passing.aside) >= maxResting {
		return
	}
	e.note.Aside = true
	l.keepAside(e.seq)
	l.logger.Warn("queued request fails while others are delivered, no longer blocking the queue",
		"id", formatID(l.service, e.seq), "attempts", e.note.Attempts, "last_error", e.note.LastError)
}

// keepAside notes that nothing waits for a message.
func (l *line) keepAside(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.aside[seq] = true
}

// passable reports whether a trial may pass e: none passes a message that has never failed itself.
func (p *Policy) passable(e *entry) bool {
	return e.note.suspect() || !p.Ordered && e.note.Failures > 0
}

// pass returns a trial in place of e, which may be passed, if there is one that has failed less; nil if
// nothing is known that may be sent. Without a trial it returns e and wait, how long to wait at the longest.
func (l *line) pass(p *Policy, e *entry, wait time.Duration) (*entry, time.Duration, error) {
	if left := l.untilAdmitted(); left > 0 {
		if e != nil {
			return nil, min(left, p.left(e)), nil
		}
		return nil, min(left, wait), nil
	}
	trial, err := l.trial()
	if err != nil || trial == nil || e != nil && trial.note.Failures >= e.note.Failures {
		return e, wait, err
	}
	if p.Ordered && !l.asked && time.Since(l.passing.since) > trialWithin {
		// The suspect first: the upstream may have recovered.
		l.passing.allowed, l.paused = false, time.Time{}
		if len(l.resting) > 0 {
			l.resting.hurry(l.resting[0].seq)
		}
		return nil, 0, nil
	}
	return trial, 0, nil
}

// untilAdmitted returns how long the breaker lets nothing through.
func (l *line) untilAdmitted() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Until(l.refused)
}

// trial returns the message behind the cursor that has failed least, of the first few that are no
// suspects; nil if there is none.
func (l *line) trial() (best *entry, err error) {
	now := time.Now()
	choice := 0
	for after, read := l.cursor, 0; read < trialRead && choice < trialChoice; {
		var records []disk.Record
		if records, err = l.store.Read(l.service, after, readMessages, readBytes); err != nil || len(records) == 0 {
			break
		}
		for i := range records {
			e := entryOf(records[i])
			if e.note.suspect() || e.note.Aside || l.skipped[e.seq] {
				continue
			}
			if choice++; choice > trialChoice {
				break
			}
			if !e.note.NotBefore.After(now) && (best == nil || e.note.Failures < best.note.Failures) && !l.isDropped(e.seq) {
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

// isDropped reports whether a message is being dropped.
func (l *line) isDropped(seq uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.drops[seq] != 0
}
