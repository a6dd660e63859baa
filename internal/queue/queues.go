// Package queue keeps requests whose upstream can't take them, and delivers them when it can:
// accepted once, delivered at least once, and in order where that is wanted.
//
// A request is accepted once it is in the store (disk.Queue). Each service has a line, one
// goroutine, that takes the oldest message and sends it through the service's breaker: what
// the upstream takes is removed, what it can't take now rests, what it refuses is buried.
package queue

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/queue/disk"
	"cbproxy/internal/store"
)

// Sender sends messages to upstreams. It must be safe for concurrent use.
type Sender interface {
	// Send sends a message to its service's upstream through the service's breaker, once, and
	// tells the breaker what came of it, save for the failure of a suspect. The error is a *NotAdmitted where the breaker did not
	// let it, and otherwise a *Failed.
	Send(ctx context.Context, service string, m *Message) (Answer, error)
	// LastSuccess returns when the client's request began that a service's upstream was the last to answer without a failure;
	// zero if there is none.
	LastSuccess(service string) time.Time
}

// Answer is what of an upstream's answer matters.
type Answer struct {
	Status int
	// RetryAfter is how long it wants to be left alone, 0 if it did not say.
	RetryAfter time.Duration
}

// NotAdmitted is the error of a message that was not sent.
type NotAdmitted struct {
	// RetryAt is when it may be; zero if that is not known.
	RetryAt time.Time
	Reason  string
}

func (e *NotAdmitted) Error() string { return e.Reason }

// Failed is the error of a message that was sent and got no answer.
type Failed struct {
	Reason events.Reason
	// Unsent is whether there was no connection to send it on.
	Unsent bool
	Err    error
}

func (e *Failed) Error() string { return e.Err.Error() }
func (e *Failed) Unwrap() error { return e.Err }

// Config is what Queues are built from. All fields but those of the copies are required.
type Config struct {
	Store  *disk.Queue
	Bus    *events.Bus
	Logger *slog.Logger
	// Copies is where copies are kept for other instances, nil for nowhere, as long as Shared says
	// so.
	Copies *store.Copies
	Shared func() bool
	// Times are those of the copies; zero is as usual.
	Times Times
}

// Queues is the queues of all services. Safe for concurrent use.
type Queues struct {
	config Config

	lines atomic.Pointer[map[string]*line] // is replaced as a whole, as every request looks into it

	mu    sync.Mutex  // held while lines is replaced; guards what follows
	start func(*line) // nil until Run
}

// New returns the queues of a store, which deliver nothing until Run.
func New(c Config) *Queues {
	q := &Queues{config: c}
	q.lines.Store(&map[string]*line{})
	for _, service := range c.Store.Services() {
		q.line(service)
	}
	return q
}

// line returns a service's line, which is made where there is none.
func (q *Queues) line(service string) *line {
	if l := q.all()[service]; l != nil {
		return l
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.all()[service]
	if l == nil {
		l = newLine(service, &q.config)
		waiting, _ := q.config.Store.Counts(service)
		l.depth.Store(int64(waiting))
		if q.config.Copies != nil {
			l.mirror = newMirror(l, &q.config, q.takeIn)
		}
		lines := maps.Clone(q.all())
		lines[service] = l
		q.lines.Store(&lines)
		if q.start != nil {
			q.start(l)
		}
	}
	return l
}

// all returns the lines there are, which must not be modified.
func (q *Queues) all() map[string]*line { return *q.lines.Load() }

// Configure puts a service's policy in force. What waits stays, even beyond a smaller capacity.
func (q *Queues) Configure(service string, p Policy) {
	l := q.line(service)
	l.policy.Store(&p)
	l.nudge()
}

// Waiting reports whether any message of a service waits, those that are set aside not counted, and
// why the last attempt to deliver one failed, "" if it did not.
func (q *Queues) Waiting(service string) (reason events.Reason, waiting bool) {
	l := q.all()[service]
	if l == nil || l.depth.Load() <= 0 {
		return "", false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.depth.Load() <= int64(len(l.aside)) {
		return "", false
	}
	return l.reason, true
}

// ErrFull is in the error of Accept when as many messages wait as may.
var ErrFull = errors.New("the queue is full")

// idempotencyField tells an upstream that a request is one that it has had before, see
// https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/.
const idempotencyField = "Idempotency-Key"

// Accept keeps a message. Once it has returned without an error the message will be delivered,
// or end as a dead letter, whatever happens to the process; with one it will not. m gets an
// Idempotency-Key if it has none.
func (q *Queues) Accept(ctx context.Context, service string, m *Message) error {
	l := q.line(service)
	p := l.policy.Load()
	if m.Header.Get(idempotencyField) == "" {
		m.Header.Set(idempotencyField, rand.Text())
	}
	payload, err := encode(m, p.Keys)
	if err != nil {
		return err
	}
	depth := l.depth.Add(1)
	if depth > int64(p.Capacity) {
		l.depth.Add(-1)
		err := fmt.Errorf("%w: %d requests wait", ErrFull, p.Capacity)
		l.refusals.tell(l.logger, err)
		return err
	}
	if _, err = q.config.Store.Add(ctx, service, payload); err != nil {
		l.depth.Add(-1)
		if ctx.Err() == nil {
			l.refusals.tell(l.logger, err)
		}
		l.nudge() // those after it have waited for it
		return err
	}
	l.counts.accepted.Add(1)
	if depth == 1 {
		l.blame(m.Reason)
		l.logger.Info("requests are queued until the upstream can take them")
	}
	l.changed()
	l.arrive()
	l.mirror.arrived()
	return nil
}

// takeIn keeps a message that was accepted by another instance.
func (q *Queues) takeIn(ctx context.Context, l *line, payload []byte) (seq uint64, err error) {
	l.depth.Add(1)
	if seq, err = q.config.Store.Add(ctx, l.service, payload); err != nil {
		l.depth.Add(-1)
		return 0, err
	}
	l.changed()
	l.nudge()
	return seq, nil
}

const (
	eventQueue = 1024                   // events the queues may be behind
	tellEvery  = 250 * time.Millisecond // a service's changes are told that often at most
)

// Run delivers with sender until ctx is done.
func (q *Queues) Run(ctx context.Context, sender Sender) {
	var running sync.WaitGroup
	defer running.Wait()
	sub := q.config.Bus.Subscribe(eventQueue)
	defer sub.Close()
	q.mu.Lock()
	q.start = func(l *line) {
		running.Go(func() { l.run(ctx, sender) })
		running.Go(func() { l.tell(ctx, q.config.Bus, q.Status) })
		if l.mirror != nil {
			running.Go(func() { l.mirror.run(ctx) })
		}
	}
	for _, l := range q.all() {
		q.start(l)
	}
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.start = func(*line) {} // running is waited for
	}()
	for {
		e, missed, err := sub.Next(ctx)
		if err != nil {
			return
		}
		q.hear(e, missed)
	}
}

// hear wakes lines whose breakers may let something through now.
func (q *Queues) hear(e events.Event, missed int) {
	service, recovered := "", false
	switch e := e.(type) {
	case events.StateChanged:
		service, recovered = e.Service, e.To == events.Closed
	case events.ProbeGranted:
		service = e.Service
	case events.Reloaded:
		missed++ // anything may be different
	}
	for name, l := range q.all() {
		if name == service || missed > 0 {
			l.admit(recovered)
		}
	}
}

// blame keeps why the upstream can't take what waits, until an attempt tells.
func (l *line) blame(reason events.Reason) {
	switch reason {
	case events.ReasonConnect, events.ReasonTimeout, events.ReasonReset, events.ReasonStatus:
		l.mu.Lock()
		defer l.mu.Unlock()
		l.reason = reason
	}
}
