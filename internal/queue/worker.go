package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"cbproxy/internal/queue/disk"
	"cbproxy/internal/queue/mirror"
)

// worker delivers the messages of one service, one at a time.
type worker struct {
	service string
	store   *disk.Store
	logger  *slog.Logger
	mirror  *mirror.Mirror // nil without Redis

	policy  atomic.Pointer[Policy]
	depth   atomic.Int64 // waiting messages, including those being accepted
	counts  counts
	wake    chan struct{} // holds a token when there may be something to do
	changes chan struct{} // holds a token when the status has changed
	done    chan struct{} // closed when run returns

	rejections  limitedLog // requests that cannot be queued
	storeErrors limitedLog // changes that cannot be stored

	sender  Sender          // set by run
	sendCtx context.Context // canceled drainTimeout after the context of run; set by run

	schedule // used only by the goroutine of run
	sharedState

	adminMu sync.Mutex // serializes administrators' requests and releases to other instances
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
		sharedState: sharedState{drops: map[uint64]drop{}, deliveredInStore: map[uint64]bool{}, setAside: map[uint64]bool{}},
	}
	p := unconfiguredPolicy()
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
	w.unwritten.retryAt = time.Time{}
	w.writeStates()
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
	e, wait, err := w.choose(p)
	if err != nil || e == nil {
		return min(wait, w.unwritten.wait()), err
	}
	return 0, w.process(p, e)
}

// choose returns the message to be processed now, or nil and how long to wait. These rules apply, the first ones first:
//
//  1. A trial is sent before the next message in order, see chooseTrial.
//  2. Delivery states that are not in the store are written, unless a trial is sent now.
//  3. A message that has expired waits for nothing: it becomes a dead letter. Neither does one that could not be made a dead letter.
//  4. No message is sent during a pause after a failure or while the breaker rejects, see sendDelay.
//  5. No message is sent while another instance may have taken it over, see mirror.Mirror.Ready.
func (w *worker) choose(p *Policy) (e *entry, wait time.Duration, err error) {
	e, wait, err = w.nextMessage(p)
	checkAgain := w.checkClientSuccess()
	if e != nil {
		e.expired = p.remaining(e) <= 0
	}
	if err == nil && w.trials.allowed && (e == nil || !e.isDead() && p.mayBeOvertaken(e)) {
		e, wait, err = w.chooseTrial(p, e, wait)
	}
	if w.unwritten.wait() <= 0 && (err != nil || e == nil || !e.trial) {
		w.writeStates()
		return nil, 0, err
	}
	if err != nil || e == nil {
		return nil, min(wait, checkAgain), err
	}
	if e.isDead() {
		return e, 0, nil
	}
	if wait := w.sendDelay(e); wait > 0 {
		return nil, min(wait, p.remaining(e), checkAgain), nil
	}
	if !w.mirror.Ready() {
		return nil, min(mirrorWait, p.remaining(e)), nil
	}
	return e, 0, nil
}

// process delivers e, or makes it a dead letter if it is one already, has expired or cannot be decoded.
func (w *worker) process(p *Policy, e *entry) error {
	if !w.beginSend(e) {
		return nil // it was dropped
	}
	defer w.mirror.RecordSent()
	defer w.endSend()
	switch {
	case e.delivery.DeadCause != "":
		return w.deadLetter(p, e, e.delivery.DeadCause, e.delivery.LastError)
	case e.expired:
		return w.deadLetter(p, e, CauseExpired, fmt.Sprintf("older than %v", p.MaxAge))
	}
	m, err := decode(e.payload, p.Keys)
	if p.unconfigured && errors.Is(err, errNoKey) {
		w.pausedUntil = time.Now().Add(maxWait) // Configure ends the pause
		return nil
	}
	if err != nil {
		return w.deadLetter(p, e, CauseUnreadable, err.Error())
	}
	err = w.deliver(p, e, m)
	w.writeStates()
	return err
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
