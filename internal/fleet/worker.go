package fleet

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"cbproxy/internal/breaker"
	"cbproxy/internal/store"
)

const (
	minBackoff     = 100 * time.Millisecond // after the first failed request
	maxBackoff     = 4 * time.Second        // after many failed requests
	releaseTimeout = 500 * time.Millisecond // for releasing the lease at shutdown
)

// worker is the goroutine that sends a protocol's requests to the Coordinator. The embedded
// protocol is used by that goroutine only.
type worker struct {
	*protocol
	coordinator Coordinator

	wakeups   chan struct{}               // holds a token if there may be something to do
	published atomic.Pointer[store.State] // the newest published decision that run has not handled yet
	resync    atomic.Bool                 // published decisions may have been missed
	commands  chan *command
	epoch     atomic.Uint64      // of the last known decision
	cancel    context.CancelFunc // ends run; guarded by Fleet.mu
}

func newWorker(service string, b *breaker.Breaker, f *Fleet) *worker {
	w := &worker{
		protocol: newProtocol(service, f.config.Instance, b), coordinator: f.config.Coordinator,
		wakeups: make(chan struct{}, 1), commands: make(chan *command), cancel: func() {},
	}
	w.sharing, w.syncInterval, w.protocol.wakeUp = f.config.Sharing, f.syncInterval, w.wakeUp
	w.lastContact, w.tokenCount = &f.lastContact, &f.tokenCount
	b.SetProbePermission(w.mayProbe)
	return w
}

// wakeUp makes run call next. It does not block and is safe for concurrent use.
func (w *worker) wakeUp() {
	select {
	case w.wakeups <- struct{}{}:
	default: // there is a token already
	}
}

// offer passes a published decision to run. Only the newest one is kept. It is safe for concurrent
// use.
func (w *worker) offer(s store.State) {
	for {
		old := w.published.Load()
		if old != nil && old.Epoch >= s.Epoch || w.published.CompareAndSwap(old, &s) {
			break
		}
	}
	w.wakeUp()
}

// run sends requests until ctx is done, and then releases the lease.
func (w *worker) run(ctx context.Context) {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = minBackoff, maxBackoff
	for ctx.Err() == nil {
		if s := w.published.Swap(nil); s != nil {
			w.handlePublished(*s)
		}
		if w.resync.Swap(false) {
			w.syncAt = time.Time{}
		}
		r, wake := w.next(time.Now())
		w.epoch.Store(w.known.Epoch)
		if r.kind == noRequest {
			w.sleep(ctx, wake)
			continue
		}
		sent := time.Now()
		res := r.send(ctx, w.coordinator)
		w.handleResponse(&r, res, sent, time.Now())
		if res.err == nil {
			if !w.anyFailing(time.Now()) {
				wait.Reset()
			}
			continue
		}
		w.backOff(ctx, wait.NextBackOff())
	}
	w.completeCommand(nil, ctx.Err())
	if r := w.releaseLease(); r.kind != noRequest {
		r.state.Service = w.service
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer cancel()
		_ = r.send(last, w.coordinator) // if it fails, the lease expires
	}
}

// sleep returns at wake, or earlier if there may be something to do.
func (w *worker) sleep(ctx context.Context, wake time.Time) {
	var timeout <-chan time.Time
	if !wake.IsZero() {
		t := time.NewTimer(time.Until(wake))
		defer t.Stop()
		timeout = t.C
	}
	select {
	case <-ctx.Done():
	case <-w.wakeups:
	case w.protocol.command = <-w.commands:
	case <-timeout:
	}
}

// backOff waits after a failed request. It returns earlier if there is a command, which is then
// tried at once.
func (w *worker) backOff(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case w.protocol.command = <-w.commands:
	case <-t.C:
	}
}
