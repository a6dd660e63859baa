package queue

import (
	"cmp"
	"context"
	"slices"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/queue/disk"
)

// Status is one service's queue at one moment.
type Status struct {
	// Waiting and Dead count messages.
	Waiting int
	Dead    int
	// Oldest is when the message that has waited longest was accepted; zero if none waits.
	Oldest time.Time
	// NextAttempt is when something may be sent again; zero if that is now.
	NextAttempt time.Time
	// LastError is why the last attempt failed; "" if it did not.
	LastError string
	// Accepted, Delivered, Retried (attempts that failed), Died and Lost (dead letters that were
	// removed because there were too many) count since the process began.
	Accepted  uint64
	Delivered uint64
	Retried   uint64
	Died      uint64
	Lost      uint64
	// TakenOver counts the messages of other instances that this one has taken over, and
	// Surrendered those that others have taken over from it.
	TakenOver   uint64
	Surrendered uint64
}

// Status returns a service's queue as it is now.
func (q *Queues) Status(service string) Status {
	l := q.all()[service]
	if l == nil {
		return Status{}
	}
	_, dead := q.config.Store.Counts(service)
	s := Status{
		Waiting: int(max(l.depth.Load(), 0)), Dead: dead,
		Accepted: l.counts.accepted.Load(), Delivered: l.counts.delivered.Load(), Retried: l.counts.retried.Load(),
		Died: l.counts.dead.Load(), Lost: l.counts.lost.Load(),
		TakenOver: l.counts.adopted.Load(), Surrendered: l.counts.surrendered.Load(),
	}
	if s.Waiting > 0 {
		if first, err := l.store.Read(service, 0, 1, 1); err == nil && len(first) > 0 {
			s.Oldest = acceptedAt(first[0].Payload).UTC()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.LastError = l.problem; l.next.After(time.Now()) {
		s.NextAttempt = l.next.UTC()
	}
	return s
}

// Commits counts what was written to the disk for queues, with two fsyncs each.
func (q *Queues) Commits() uint64 { return q.config.Store.Commits() }

// Services returns the services that have a queue or had one, sorted.
func (q *Queues) Services() []string {
	var names []string
	for name := range q.all() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Item is what may be seen of a message: nothing of its fields, its query or its body.
type Item struct {
	ID      string
	Service string
	// State is waiting or dead.
	State  string
	Method string
	Path   string
	// Bytes is the size of its body.
	Bytes    int
	Accepted time.Time
	Attempts int
	// Aside is whether others pass it while it waits, as it fails while they are delivered.
	Aside bool
	// NotBefore is when it is tried again at the earliest; zero is at once.
	NotBefore time.Time
	LastError string
	Cause     string
	Died      time.Time
}

// The states of messages.
const (
	StateWaiting = "waiting"
	StateDead    = "dead"
)

// listBytes is how much is read at once to list messages.
const listBytes = 4 << 20

// List returns up to limit messages of a service in a state, oldest first, that come after the
// one with the given ID; "" is before the first.
func (q *Queues) List(service, state, after string, limit int) (items []Item, err error) {
	l := q.all()[service]
	if l == nil {
		return nil, nil
	}
	_, seq := parseID(after)
	for len(items) < limit {
		var records []disk.Record
		if state == StateDead {
			records, err = q.config.Store.DeadLetters(service, seq, limit-len(items), listBytes)
		} else {
			records, err = q.config.Store.Read(service, seq, limit-len(items), listBytes)
		}
		if err != nil || len(records) == 0 {
			return items, err
		}
		for _, r := range records {
			seq = r.Seq
			if state == StateWaiting && l.isDelivered(seq) {
				continue
			}
			items = append(items, itemOf(service, state, entryOf(r), l.policy.Load().Keys))
		}
	}
	return items, nil
}

func itemOf(service, state string, e entry, keys *Keyring) Item {
	i := Item{
		ID: formatID(service, e.seq), Service: service, State: state, Accepted: acceptedAt(e.payload).UTC(), Attempts: e.note.Attempts, Aside: e.note.Aside,
		NotBefore: e.note.NotBefore, LastError: e.note.LastError, Cause: string(e.note.Cause), Died: e.note.Died,
	}
	if m, err := decode(e.payload, keys); err == nil {
		i.Method, i.Path, i.Bytes = m.Method, m.Path, len(m.Body)
	} else {
		i.LastError = cmp.Or(i.LastError, err.Error())
	}
	return i
}

// tell publishes the line's changes, until ctx is done.
func (l *line) tell(ctx context.Context, bus *events.Bus, status func(service string) Status) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.news:
		}
		s := status(l.service)
		bus.Publish(events.QueueChanged{
			Time: time.Now().UTC(), Service: l.service, Waiting: s.Waiting, Dead: s.Dead, Oldest: s.Oldest,
			Accepted: s.Accepted, Delivered: s.Delivered,
		})
		t := time.NewTimer(tellEvery)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}
