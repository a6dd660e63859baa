package queue

import (
	"cmp"
	"context"
	"slices"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/queue/disk"
)

// publishInterval is the minimum time between two published changes of a service's queue.
const publishInterval = 250 * time.Millisecond

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

// Status returns the current status of a service's queue.
func (q *Queues) Status(service string) Status {
	w := q.allWorkers()[service]
	if w == nil {
		return Status{}
	}
	_, dead := q.config.Store.Counts(service)
	s := Status{
		Waiting: int(max(w.depth.Load(), 0)), Dead: dead,
		Accepted: w.counts.accepted.Load(), Delivered: w.counts.delivered.Load(), Retried: w.counts.retried.Load(),
		Died: w.counts.dead.Load(), Lost: w.counts.lost.Load(),
		TakenOver: w.counts.takenOver.Load(), Surrendered: w.counts.released.Load(),
	}
	if s.Waiting > 0 {
		if first, err := w.store.Read(service, 0, 1, 1); err == nil && len(first) > 0 {
			s.Oldest = acceptedAt(first[0].Payload).UTC()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.LastError = w.lastError; w.nextAttempt.After(time.Now()) {
		s.NextAttempt = w.nextAttempt.UTC()
	}
	return s
}

// Commits returns the number of commits to the queue's files. Each takes two fsyncs.
func (q *Queues) Commits() uint64 { return q.config.Store.Commits() }

// Services returns the services with a queue in the configuration or with messages in the store at startup, sorted.
func (q *Queues) Services() []string {
	var names []string
	for name := range q.allWorkers() {
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

// listBytes bounds the payloads that List reads at once.
const listBytes = 4 << 20

// List returns up to limit messages of a service in a state, oldest first, that follow the one with the ID after; "" starts with the
// first.
func (q *Queues) List(service, state, after string, limit int) (items []Item, err error) {
	w := q.allWorkers()[service]
	if w == nil {
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
			if state == StateWaiting && w.isDelivered(seq) {
				continue
			}
			items = append(items, itemOf(service, state, entryOf(r), w.policy.Load().Keys))
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

// publishChanges publishes the worker's changes on the bus until ctx is done.
func (w *worker) publishChanges(ctx context.Context, bus *events.Bus, status func(service string) Status) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.changes:
		}
		s := status(w.service)
		bus.Publish(events.QueueChanged{
			Time: time.Now().UTC(), Service: w.service, Waiting: s.Waiting, Dead: s.Dead, Oldest: s.Oldest,
			Accepted: s.Accepted, Delivered: s.Delivered,
		})
		t := time.NewTimer(publishInterval)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}
