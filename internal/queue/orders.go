package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"cbproxy/internal/queue/disk"
)

var (
	// ErrUnknown is the error of an ID that no message has.
	ErrUnknown = errors.New("no queued request has this id")
	// ErrInFlight is the error of a message that can't be dropped because it is being sent.
	ErrInFlight = errors.New("it is being sent at this moment")
)

// locate returns the line of an ID's message, and its number there.
func (q *Queues) locate(id string) (*line, uint64, error) {
	service, seq := parseID(id)
	l := q.all()[service]
	if l == nil || seq == 0 {
		return nil, 0, ErrUnknown
	}
	return l, seq, nil
}

// Retry lets a message be tried at once: one that waits as soon as its breaker and those before
// it let it, and a dead one likewise, as the youngest that waits and with all of its attempts
// ahead of it.
func (q *Queues) Retry(ctx context.Context, id string) (Item, error) {
	l, seq, err := q.locate(id)
	if err != nil {
		return Item{}, err
	}
	l.orders.Lock()
	defer l.orders.Unlock()
	r, dead, found, err := q.config.Store.Get(l.service, seq)
	switch {
	case err != nil:
		return Item{}, err
	case !found || !dead && l.isDelivered(seq):
		return Item{}, ErrUnknown
	case dead:
		r.Note = nil
		if r.Seq, err = q.revive(ctx, l, seq); r.Seq == 0 {
			return Item{}, err
		}
	}
	if err == nil && !dead {
		err = q.clearDelay(l, &r)
	}
	l.mu.Lock()
	l.urgent = append(l.urgent, r.Seq)
	l.mu.Unlock()
	l.nudge()
	return itemOf(l.service, StateWaiting, entryOf(r), l.policy.Load().Keys), err
}

// clearDelay makes a waiting message one that is tried at once after a restart, too. One that is being sent gets its next delay
// from the outcome.
func (q *Queues) clearDelay(l *line, r *disk.Record) error {
	l.mu.Lock()
	sending := l.current == r.Seq
	l.mu.Unlock()
	n := parseNote(r.Note)
	if sending || n.NotBefore.IsZero() {
		return nil
	}
	n.NotBefore = time.Time{}
	r.Note = n.encode()
	if err := q.config.Store.Note(l.service, r.Seq, r.Note); err != nil {
		return fmt.Errorf("it is tried now, but that is not on the disk: %w", err)
	}
	return nil
}

// revive makes a dead message wait again. With an error it may do so nevertheless: under the
// number that is returned then, and as a dead one as well.
func (q *Queues) revive(ctx context.Context, l *line, seq uint64) (renamed uint64, err error) {
	l.depth.Add(1) // first: it may be delivered before this goes on
	renamed, err = q.config.Store.Requeue(ctx, l.service, seq)
	if renamed == 0 {
		l.depth.Add(-1)
		l.nudge() // those after it have waited for it
		err = cmp.Or(err, ErrUnknown)
	}
	l.changed()
	l.mirror.arrived()
	return renamed, err
}

// Drop removes a message for good.
func (q *Queues) Drop(id string) (Item, error) {
	l, seq, err := q.locate(id)
	if err != nil {
		return Item{}, err
	}
	l.orders.Lock()
	defer l.orders.Unlock()
	if err := l.give(seq); err != nil {
		return Item{}, err
	}
	// Only now, as it may have been delivered or have died until then.
	r, dead, found, err := q.config.Store.Get(l.service, seq)
	if err == nil && !found {
		err = ErrUnknown
	}
	if err == nil {
		err = q.config.Store.Delete(l.service, seq)
	}
	if err != nil {
		l.keep(seq)
		return Item{}, err
	}
	l.removed(seq)
	state := StateDead
	if !dead {
		state = StateWaiting
		l.left()
		l.mirror.gone(seq)
	}
	l.changed()
	return itemOf(l.service, state, entryOf(r), l.policy.Load().Keys), nil
}

// drop is how far the removal of a message has come that an operator wants gone.
type drop uint8

const (
	dropBegun  drop = iota + 1
	dropPassed      // the line has passed it, as it is not to be sent
	dropDone        // it is not in the store any more
)

// give sees to it that a message is not sent any more, unless it was or is being sent.
func (l *line) give(seq uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.current == seq:
		return ErrInFlight
	case l.unremoved[seq] || l.drops[seq] != 0:
		return ErrUnknown
	}
	l.drops[seq] = dropBegun
	return nil
}

// keep takes give back.
func (l *line) keep(seq uint64) {
	l.mu.Lock()
	if l.drops[seq] == dropPassed {
		l.kept = append(l.kept, seq)
	}
	delete(l.drops, seq)
	l.mu.Unlock()
	l.nudge()
}

// removed completes give: the message is gone, and those behind it need not wait for it.
func (l *line) removed(seq uint64) {
	l.mu.Lock()
	l.drops[seq] = dropDone
	delete(l.aside, seq)
	l.dropped = append(l.dropped, seq)
	l.mu.Unlock()
	l.nudge()
}
