// Package mirror copies the messages of a queue to Redis, so that another instance can take them over if this one fails, and takes over
// the messages of failed instances; see ../PROTOCOL.md. The local store is authoritative: if Redis is unavailable or loses data, no message
// is lost or delayed.
package mirror

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/time/rate"

	"cbproxy/internal/queue/disk"
	"cbproxy/internal/store"
)

// Mirror copies the messages of one service. Fields without another comment are used only by the goroutine of Run, or do not change after
// New.
type Mirror struct {
	service string
	queue   Queue
	store   *disk.Store
	copies  *store.Copies
	// enabled reports whether redis.share is enabled, which a reload can change.
	enabled func() bool
	logger  *slog.Logger
	timings Timings
	wake    chan struct{} // holds a token when there may be something to do

	copiedUpTo        uint64          // messages up to this one have copies
	reconciled        bool            // no difference between the store and the copies is known
	lapses            int             // heartbeats that found that the previous one had expired
	mismatches        int             // consecutive heartbeats at which their counts differed
	lastHeartbeat     time.Time       // when the last heartbeat was sent
	withdrawn         bool            // copying is disabled, and there are no copies and no heartbeat
	retrying          bool            // the last step failed, and the next heartbeat finds out whether Redis answers again
	lastTakeoverCheck time.Time       // when copies of failed instances were last looked for
	unconfirmed       *takeover       // nil if Redis has confirmed all takeovers
	unreleased        map[uint64]bool // messages that another instance has taken over, and that were being sent when they were to be removed

	storeErrors rate.Sometimes // limits the log of errors of the local store

	releasing   atomic.Bool  // unreleased is not empty
	aliveUntil  atomic.Int64 // until when other instances consider this one alive, in monotonic time since started
	unavailable atomic.Bool  // Redis cannot be used or is not to be used

	mu          sync.Mutex // guards the fields below
	removedSeqs []uint64   // messages that were removed from the store, and whose copies are to be removed
	overflowed  bool       // removedSeqs was full
}

// localError is an error of the local store.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// asLocal returns err as an error of the local store.
func asLocal(err error) error {
	if err == nil {
		return nil
	}
	return &localError{err}
}

// Timings are the intervals of copying to Redis. An instance sends a heartbeat at intervals of Heartbeat. When the last one is older than
// Expiry, it is considered dead, and other instances deliver its messages, even if it still runs. At intervals of TakeoverCheck an instance
// looks for the messages of dead ones.
type Timings struct{ Heartbeat, Expiry, TakeoverCheck time.Duration }

var defaultTimings = Timings{Heartbeat: 3 * time.Second, Expiry: 12 * time.Second, TakeoverCheck: 4 * time.Second}

// retentionMargin is how long copies are kept beyond MaxAge.
const retentionMargin = 24 * time.Hour

const (
	// batchSize and batchBytes bound what is sent to Redis at once.
	batchSize  = 200
	batchBytes = 1 << 20
	// maxRemovedSeqs bounds the removals that are recorded while Redis is unavailable.
	maxRemovedSeqs = 100_000
	// maxMismatches is the number of heartbeats for which the counts may differ, because copying takes a while.
	maxMismatches = 10
)

// Config configures a Mirror.
type Config struct {
	Service string
	Queue   Queue
	Store   *disk.Store
	Copies  *store.Copies
	// Enabled reports whether messages are to be copied, which may change.
	Enabled func() bool
	Logger  *slog.Logger
	// Timings are the intervals; zero means the default ones.
	Timings Timings
}

// storeErrorInterval is the time between two log records about errors of the local store.
const storeErrorInterval = 10 * time.Second

// New returns a mirror. It does nothing until Run.
func New(c Config) *Mirror {
	return &Mirror{
		service: c.Service, queue: c.Queue, store: c.Store, copies: c.Copies, enabled: c.Enabled, logger: c.Logger, timings: cmp.Or(c.Timings, defaultTimings),
		wake: make(chan struct{}, 1), unreleased: map[uint64]bool{}, storeErrors: rate.Sometimes{Interval: storeErrorInterval},
	}
}

func (m *Mirror) logStoreError(message string, err error) {
	m.storeErrors.Do(func() { m.logger.Error(message, "error", err) })
}

// notify wakes the goroutine of Run. Safe for concurrent use.
func (m *Mirror) notify() {
	select {
	case m.wake <- struct{}{}:
	default: // it holds a token
	}
}

var started = time.Now() // the origin of monotonic times

// Ready reports whether the worker may deliver messages. It may not while another instance may have taken them over, unless Redis is
// unavailable. A nil mirror is always ready. Safe for concurrent use.
func (m *Mirror) Ready() bool {
	return m == nil || m.unavailable.Load() || int64(time.Since(started)) < m.aliveUntil.Load()
}

// RecordRemoved records that a message was removed from the local store. Safe for concurrent use; a nil mirror ignores it.
func (m *Mirror) RecordRemoved(seq uint64) {
	if m == nil {
		return
	}
	m.mu.Lock()
	if len(m.removedSeqs) < maxRemovedSeqs {
		m.removedSeqs = append(m.removedSeqs, seq)
	} else {
		m.overflowed = true
	}
	m.mu.Unlock()
	m.notify()
}

// RecordSent records that an attempt has ended, so that a message can be released. Safe for concurrent use; a nil mirror ignores it.
func (m *Mirror) RecordSent() {
	if m != nil && m.releasing.Load() {
		m.notify()
	}
}

// RecordAdded records that a message was added to the local store. Safe for concurrent use; a nil mirror ignores it.
func (m *Mirror) RecordAdded() {
	if m != nil {
		m.notify()
	}
}

// Run copies messages until ctx is done.
func (m *Mirror) Run(ctx context.Context) {
	pause := backoff.ExponentialBackOff{InitialInterval: 500 * time.Millisecond, MaxInterval: 10 * time.Second, Multiplier: 2, RandomizationFactor: 0.3}
	pause.Reset()
	for ctx.Err() == nil {
		wait := m.timings.Heartbeat
		if err := m.step(ctx); err != nil && ctx.Err() == nil {
			m.handleError(err)
			wait = m.retryDelay(pause.NextBackOff())
		} else {
			pause.Reset()
		}
		m.queue.Notify() // the worker waits for ready
		m.sleep(ctx, wait)
	}
	<-m.queue.Stopped()
	if !m.unavailable.Load() {
		shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		m.shutDown(shutdown)
	}
}

// handleError handles an error of step. An error of the local store does not permit the worker to deliver what other instances have.
func (m *Mirror) handleError(err error) {
	m.retrying = true
	if local := new(localError); errors.As(err, &local) { // Redis logs its own errors
		m.logStoreError("cannot access the queue's store, its copies in Redis are not updated, retrying", err)
		return
	}
	m.unavailable.Store(true)
	m.suspend()
}

// retryDelay returns how long to wait after an error of step: pause, but not so long that other instances consider this one dead although
// its heartbeats succeed.
func (m *Mirror) retryDelay(pause time.Duration) time.Duration {
	if time.Since(m.lastHeartbeat) < m.timings.Expiry {
		return min(pause, m.timings.Heartbeat)
	}
	return pause
}

// shutDown removes the copies of delivered messages and then the heartbeat, so that other instances take over the rest without delay. If
// that fails, they wait until the heartbeat expires.
func (m *Mirror) shutDown(ctx context.Context) {
	for m.queue.RemovalsPending() {
		select {
		case <-m.wake:
		case <-ctx.Done():
			return
		}
	}
	if m.dropCopies(ctx) == nil {
		_ = m.copies.RemoveHeartbeat(ctx, m.service)
	}
}

// sleep waits until the mirror is woken, but at most for wait. Nothing wakes it while Redis is unavailable.
func (m *Mirror) sleep(ctx context.Context, wait time.Duration) {
	t := time.NewTimer(wait)
	defer t.Stop()
	wake := m.wake
	if m.unavailable.Load() {
		wake = nil
	}
	select {
	case <-ctx.Done():
	case <-wake:
	case <-t.C:
	}
}
