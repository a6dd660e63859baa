package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/queue/disk"
)

// worker delivers the messages of one service, one at a time. Fields without another comment are used only by the goroutine of run, or
// do not change after newWorker.
type worker struct {
	service string
	store   *disk.Store
	logger  *slog.Logger
	mirror  *mirror // nil without Redis

	policy     atomic.Pointer[Policy]
	depth      atomic.Int64 // waiting messages, including those being accepted
	counts     counts
	wake       chan struct{} // holds a token when there may be something to do
	changes    chan struct{} // holds a token when the status has changed
	done       chan struct{} // closed when run returns
	rejections rejectionLog

	sendCtx          context.Context // canceled drainTimeout after the context of run
	sender           Sender
	ordered          bool            // Policy.Ordered, for which the fields below are valid
	cursor           uint64          // the last message that was read
	skip             map[uint64]bool // messages not to be read, because they are delivered
	readAhead        []disk.Record   // messages that were read and come next
	head             *entry          // the next message, nil if not known
	delayed          delayHeap       // messages that wait for their next attempt
	failures         int             // consecutive failures
	lastNoConnection bool            // the last attempt found no connection
	pausedUntil      time.Time       // no message is sent before, after a failure
	pauseRequested   bool            // the upstream requested the pause by Retry-After
	trials           trialState

	adminMu sync.Mutex // serializes administrators' requests and releases to other instances

	mu             sync.Mutex // guards the fields below
	breakerRetryAt time.Time  // no message is sent before, because the breaker refused one
	breakerEvents  uint64     // the number of state changes of the breaker
	sendingSeq     uint64     // the message that is being sent; 0 if none
	retryNow       []uint64   // messages that an administrator wants retried at once
	droppedSeqs    []uint64   // messages that were removed and must not delay others
	undropped      []uint64   // messages that the worker skipped because of a drop that was then cancelled
	drops          map[uint64]drop
	setAside       map[uint64]bool
	unremoved      map[uint64]bool // messages that are delivered and still in the store
	failedRemovals []uint64        // those of unremoved whose removal failed
	breakerClosed  bool            // the breaker has closed
	newArrival     bool            // a message was accepted
	lastError      string          // why the last attempt failed; "" after a success
	lastReason     events.Reason   // likewise
	nextAttempt    time.Time       // shown in the status
}

// counts are the totals of a worker since the process started.
type counts struct{ accepted, delivered, retried, dead, lost, takenOver, released atomic.Uint64 }

const (
	// drainTimeout is how long a delivery may take after the context of run ends.
	drainTimeout = 5 * time.Second
	// storeRetryDelay is the delay after an error of the store.
	storeRetryDelay = time.Second
	// mirrorWait bounds the wait until the mirror is ready. The mirror notifies the worker.
	mirrorWait = 10 * time.Second
	// maxWait bounds every wait, because the wall clock may be set.
	maxWait = 5 * time.Minute
)

func newWorker(service string, c *Config) *worker {
	w := &worker{
		service: service, store: c.Store, logger: c.Logger.With("service", service),
		changes: make(chan struct{}, 1), wake: make(chan struct{}, 1), done: make(chan struct{}),
		drops: map[uint64]drop{}, unremoved: map[uint64]bool{}, setAside: map[uint64]bool{},
	}
	p := DefaultPolicy()
	w.policy.Store(&p)
	return w
}

// run delivers messages until ctx is done, and then waits at most drainTimeout for the current delivery.
func (w *worker) run(ctx context.Context, sender Sender) {
	defer close(w.done)
	sendCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(drainTimeout, cancel) })()
	w.sendCtx, w.sender = sendCtx, sender
	for ctx.Err() == nil {
		w.applyPendingRequests()
		wait, err := w.step()
		if err != nil && ctx.Err() == nil {
			w.logger.Error("cannot access the queue's store, retrying", "error", err)
			wait = storeRetryDelay
		}
		if wait <= 0 {
			continue
		}
		w.sleep(ctx, wait)
	}
	if err := w.writeDeliveryState(); err != nil {
		w.logger.Error("cannot store the state of a failed delivery", "error", err)
	}
}

// sleep waits until the worker is notified, but at most for wait.
func (w *worker) sleep(ctx context.Context, wait time.Duration) {
	t := time.NewTimer(min(wait, maxWait))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-w.wake:
	case <-t.C:
	}
}

// step processes one message. It returns how long to wait before the next step.
func (w *worker) step() (wait time.Duration, err error) {
	p := w.policy.Load()
	e, wait, err := w.nextMessage(p)
	checkAgain := w.checkClientSuccess()
	if err == nil && w.trials.allowed && (e == nil || p.mayBeOvertaken(e)) {
		e, wait, err = w.chooseTrial(p, e, wait)
	}
	if w.trials.unwritten != nil && (err != nil || e == nil || !e.trial) {
		return 0, errors.Join(err, w.writeDeliveryState())
	}
	if err != nil || e == nil {
		return min(wait, checkAgain), err
	}
	remaining := p.remaining(e)
	if wait := w.sendDelay(e); wait > 0 && remaining > 0 {
		return min(wait, remaining, checkAgain), nil
	}
	if remaining > 0 && !w.mirror.ready() {
		return min(mirrorWait, remaining), nil
	}
	if !w.beginSend(e) {
		return 0, nil // it was dropped
	}
	defer w.endSend()
	if remaining <= 0 {
		return 0, w.deadLetter(p, e, CauseExpired, fmt.Sprintf("older than %v", p.MaxAge))
	}
	m, err := decode(e.payload, p.Keys)
	if err != nil {
		return 0, w.deadLetter(p, e, CauseUnreadable, err.Error())
	}
	return 0, errors.Join(w.deliver(p, e, m), w.writeDeliveryState())
}

// beginSend marks e as the message that is being sent, so that it cannot be dropped. It returns false if e was dropped.
func (w *worker) beginSend(e *entry) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.drops[e.seq] == 0 {
		w.sendingSeq = e.seq
		return true
	}
	if e.trial {
		return false // it is after the cursor and will be read again; findTrial then ignores it
	}
	w.head = nil
	if w.drops[e.seq] == dropBegun {
		w.drops[e.seq] = dropSkipped
	}
	return false
}

// endSend marks that no message is being sent.
func (w *worker) endSend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sendingSeq = 0
}
