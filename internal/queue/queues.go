// Package queue stores requests whose upstream is unavailable and delivers them later: at least once, and in order if configured.
//
// A request is accepted when it is in the store (disk.Store). Each service has a worker, a goroutine that sends the oldest message
// through the service's breaker. A message is removed when the upstream answers with a 2xx status, is retried later after a failure,
// and becomes a dead letter when it is rejected.
//
// A queued request is a Message. Its stored form is a disk.Record: the encoded message (the payload) and its encoded deliveryState. An
// entry is a record whose delivery state is decoded. A store.CopyRecord is a record to be copied to Redis, and an events.QueuedRequest
// is what the admin API shows of a message.
//
// With Redis each instance keeps copies of its messages there, so that another one can deliver them if it fails; see PROTOCOL.md.
package queue

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/queue/disk"
	"cbproxy/internal/queue/mirror"
	"cbproxy/internal/store"
)

// Sender sends messages to upstreams. It must be safe for concurrent use.
type Sender interface {
	// Send sends a message once to the upstream of a service through the service's breaker, and reports the outcome to the breaker,
	// except the failure of a suspect. The error is a *NotAdmitted if the breaker rejected the message, and otherwise a *Failed.
	Send(ctx context.Context, service string, m *Message) (Answer, error)
	// LastSuccess returns the start of the last client request that a service's upstream answered without a failure; zero if there
	// was none.
	LastSuccess(service string) time.Time
}

// Answer is the part of an upstream's response that the queue uses.
type Answer struct {
	Status int
	// RetryAfter is the value of the header field, 0 if there is none.
	RetryAfter time.Duration
	// Detail describes the response to operators; "": its status does.
	Detail string
}

// NotAdmitted is the error of a message that the breaker rejected and that was not sent.
type NotAdmitted struct {
	// RetryAt is when the breaker may admit it; zero if unknown.
	RetryAt time.Time
	Reason  string
}

func (e *NotAdmitted) Error() string { return e.Reason }

// Failed is the error of a message without a response.
type Failed struct {
	Reason events.Reason
	// NotCausedByMessage means that the failure does not count against the message: there was no connection, or the failure counts
	// neither as a success nor as a failure of the upstream.
	NotCausedByMessage bool
	// Unsendable means that the message itself can never be sent, such as one with a header field that HTTP/2 cannot represent.
	Unsendable bool
	Err        error
}

func (e *Failed) Error() string { return e.Err.Error() }
func (e *Failed) Unwrap() error { return e.Err }

// Config configures Queues. Copies, CopiesEnabled and CopyTimings are optional.
type Config struct {
	Store  *disk.Store
	Bus    *events.Bus
	Logger *slog.Logger

	// Copies holds copies of the messages for other instances while CopiesEnabled returns true; nil disables copies.
	Copies        *store.Copies
	CopiesEnabled func() bool
	// CopyTimings are the intervals of copying to Redis; zero means the default ones.
	CopyTimings mirror.Timings
}

// Queues holds the queues of all services. Safe for concurrent use.
type Queues struct {
	config Config

	workers atomic.Pointer[map[string]*worker] // by service; replaced as a whole, because every request reads it

	mu          sync.Mutex    // held while workers is replaced; guards the fields below
	startWorker func(*worker) // nil until Run
}

// New returns the queues of a store. They deliver nothing until Run.
func New(c Config) *Queues {
	q := &Queues{config: c}
	q.workers.Store(&map[string]*worker{})
	for _, service := range c.Store.Services() {
		q.worker(service)
	}
	return q
}

// worker returns the worker of a service and creates it if necessary.
func (q *Queues) worker(service string) *worker {
	if w := q.allWorkers()[service]; w != nil {
		return w
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.allWorkers()[service]
	if w == nil {
		w = newWorker(service, &q.config)
		waiting, _ := q.config.Store.Counts(service)
		w.depth.Store(int64(waiting))
		if q.config.Copies != nil {
			w.mirror = mirror.New(mirror.Config{
				Service: service, Queue: w, Store: q.config.Store, Copies: q.config.Copies, Enabled: q.config.CopiesEnabled,
				Logger: w.logger, Timings: q.config.CopyTimings,
			})
		}
		workers := maps.Clone(q.allWorkers())
		workers[service] = w
		q.workers.Store(&workers)
		if q.startWorker != nil {
			q.startWorker(w)
		}
	}
	return w
}

// allWorkers returns the workers by service. The map must not be modified.
func (q *Queues) allWorkers() map[string]*worker { return *q.workers.Load() }

// Configure sets the policy of a service. Messages that exceed a smaller capacity stay.
func (q *Queues) Configure(service string, p Policy) {
	w := q.worker(service)
	old := w.policy.Swap(&p)
	if old.unconfigured {
		w.breakerChanged(true) // ends the pause
	}
	w.Notify()
}

// Waiting reports whether new requests of a service must be queued behind waiting ones: whether a message waits that is not set aside.
// reason is why the last delivery failed, "" if it succeeded or there was none.
func (q *Queues) Waiting(service string) (reason events.Reason, waiting bool) {
	w := q.allWorkers()[service]
	if w == nil || w.depth.Load() <= 0 {
		return "", false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.depth.Load() <= int64(len(w.setAside)) {
		return "", false
	}
	return w.lastReason, true
}

// ErrFull is in the error of Accept when the queue has reached its capacity.
var ErrFull = errors.New("the queue is full")

// idempotencyField is the header field by which an upstream recognizes a repeated request, see
// https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/.
const idempotencyField = "Idempotency-Key"

// Accept stores a message. If it returns nil, the message will be delivered or become a dead letter, even if the process crashes;
// otherwise it is not queued, with the exception that disk.Store.Add describes. Accept adds an Idempotency-Key to m if there is none.
func (q *Queues) Accept(ctx context.Context, service string, m *Message) error {
	w := q.worker(service)
	p := w.policy.Load()
	if m.Header.Get(idempotencyField) == "" {
		m.Header.Set(idempotencyField, rand.Text())
	}
	payload, err := encode(m, p.Keys)
	if err != nil {
		return err
	}
	depth := w.depth.Add(1)
	if depth > int64(p.Capacity) {
		w.depth.Add(-1)
		err := fullError(p)
		w.rejections.log(w.logger, cannotQueue, err)
		return err
	}
	if _, err = q.config.Store.Add(ctx, service, payload); err != nil {
		w.depth.Add(-1)
		if ctx.Err() == nil {
			w.rejections.log(w.logger, cannotQueue, err)
		}
		w.Notify() // reading may have stopped at the message that was being added
		return err
	}
	w.counts.accepted.Add(1)
	if depth == 1 {
		w.setReason(m.Reason)
		w.logger.Info("queueing requests until the upstream recovers")
	}
	w.markChanged()
	w.messageArrived()
	w.mirror.RecordAdded()
	return nil
}

// eventBuffer is the number of bus events that are buffered for Run.
const eventBuffer = 1024

// Run delivers messages with sender until ctx is done.
func (q *Queues) Run(ctx context.Context, sender Sender) {
	var running sync.WaitGroup
	defer running.Wait()
	sub := q.config.Bus.Subscribe(eventBuffer)
	defer sub.Close()
	q.mu.Lock()
	q.startWorker = func(w *worker) {
		running.Go(func() { w.run(ctx, sender) })
		running.Go(func() { w.publishChanges(ctx, q.config.Bus, q.Status) })
		if w.mirror != nil {
			running.Go(func() { w.mirror.Run(ctx) })
		}
	}
	for _, w := range q.allWorkers() {
		q.startWorker(w)
	}
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.startWorker = func(*worker) {} // nothing may be added to running any more
	}()
	for {
		e, missed, err := sub.Next(ctx)
		if err != nil {
			return
		}
		q.handleEvent(e, missed)
	}
}

// handleEvent wakes the workers whose breakers may admit messages now.
func (q *Queues) handleEvent(e events.Event, missed int) {
	service, closed := "", missed > 0 // any breaker may have closed
	switch e := e.(type) {
	case events.StateChanged:
		service, closed = e.Service, e.To == events.Closed
	case events.ProbeGranted:
		service = e.Service
	case events.Reloaded:
		missed++ // any breaker may have changed
	}
	for name, w := range q.allWorkers() {
		if name == service || missed > 0 {
			w.breakerChanged(closed)
		}
	}
}

// setReason records why the upstream is unavailable, until the next attempt.
func (w *worker) setReason(reason events.Reason) {
	switch reason {
	case events.ReasonConnect, events.ReasonTimeout, events.ReasonReset, events.ReasonStatus:
		w.mu.Lock()
		defer w.mu.Unlock()
		w.lastReason = reason
	}
}
