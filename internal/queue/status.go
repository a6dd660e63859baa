package queue

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/queue/disk"
)

// publishInterval is the minimum time between two published changes of a service's queue.
const publishInterval = 250 * time.Millisecond

// Status returns the current status of a service's queue.
func (q *Queues) Status(service string) events.QueueStatus {
	w := q.allWorkers()[service]
	if w == nil {
		return events.QueueStatus{}
	}
	_, dead := q.config.Store.Counts(service)
	s := events.QueueStatus{
		Waiting: int(max(w.depth.Load(), 0)), Dead: dead,
		Accepted: w.counts.accepted.Load(), Delivered: w.counts.delivered.Load(), Retried: w.counts.retried.Load(),
		Died: w.counts.dead.Load(), Lost: w.counts.lost.Load(),
		TakenOver: w.counts.takenOver.Load(), Released: w.counts.released.Load(),
	}
	if s.Waiting > 0 {
		if first, err := w.store.Read(service, 0, 1, 1); err == nil && len(first) > 0 {
			oldest := acceptedAt(first[0].Payload).UTC()
			s.Oldest = &oldest
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.LastError = w.lastError; w.nextAttempt.After(time.Now()) {
		next := w.nextAttempt.UTC()
		s.NextAttempt = &next
	}
	return s
}

// CheckRoom returns an error with ErrFull if the queue of a service has reached its capacity.
func (q *Queues) CheckRoom(service string) error {
	if w := q.allWorkers()[service]; w != nil {
		if p := w.policy.Load(); w.depth.Load() >= int64(p.Capacity) {
			return fullError(p)
		}
	}
	return nil
}

// fullError returns the error for a queue with a policy that is full.
func fullError(p *Policy) error {
	return fmt.Errorf("%w: %d requests are waiting", ErrFull, p.Capacity)
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

// The states of messages.
const (
	StateWaiting = "waiting"
	StateDead    = "dead"
)

// listBytes bounds the payloads that List reads at once.
const listBytes = 4 << 20

// List returns up to limit messages of a service in a state, oldest first, that follow the one with the ID after; "" starts with the
// first.
func (q *Queues) List(service, state, after string, limit int) (items []events.QueuedRequest, err error) {
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
			items = append(items, queuedRequest(service, state, entryOf(r), w.policy.Load().Keys))
		}
	}
	return items, nil
}

// queuedRequest returns a message as the admin API shows it.
func queuedRequest(service, state string, e entry, keys *Keyring) events.QueuedRequest {
	i := events.QueuedRequest{
		ID: formatID(service, e.seq), Service: service, State: state, Accepted: acceptedAt(e.payload).UTC(), Attempts: e.delivery.Attempts, Aside: e.delivery.SetAside,
		NotBefore: e.delivery.NotBefore.UTC(), LastError: e.delivery.LastError, Cause: string(e.delivery.DeadCause), Died: e.delivery.DeadSince,
	}
	if m, err := decode(e.payload, keys); err == nil {
		i.Method, i.Path, i.Bytes = m.Method, m.Path, len(m.Body)
	} else {
		i.LastError = cmp.Or(i.LastError, err.Error())
	}
	return i
}

// publishChanges publishes the worker's changes on the bus until ctx is done.
func (w *worker) publishChanges(ctx context.Context, bus *events.Bus, status func(service string) events.QueueStatus) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.changes:
		}
		s := status(w.service)
		var oldest time.Time
		if s.Oldest != nil {
			oldest = *s.Oldest
		}
		bus.Publish(events.QueueChanged{
			Time: time.Now().UTC(), Service: w.service, Waiting: s.Waiting, Dead: s.Dead, Oldest: oldest,
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
