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
	minBackoff     = 100 * time.Millisecond // after a request that failed
	maxBackoff     = 4 * time.Second        // after many
	releaseTimeout = 500 * time.Millisecond // for the last request before the process ends
)

// A worker is a participant with a goroutine, which asks Redis for it.
type worker struct {
	*protocol
	coordinator Coordinator

	wakeups   chan struct{}               // holds a token if there may be something to do
	published atomic.Pointer[store.State] // the newest decision that was published and not yet heard
	resync    atomic.Bool                 // decisions may have been missed
	commands  chan *command
	epoch     atomic.Uint64 // of the last decision known
	cancel    context.CancelFunc
}

func newWorker(service string, b *breaker.Breaker, f *Fleet) *worker {
	m := &worker{
		protocol: newProtocol(service, f.config.Instance, b), coordinator: f.config.Coordinator,
		wakeups: make(chan struct{}, 1), commands: make(chan *command), cancel: func() {},
	}
	m.sharing, m.syncInterval, m.protocol.wakeUp = f.config.Sharing, f.syncInterval, m.wakeUp
	m.lastContact, m.tokenCount = &f.lastContact, &f.tokenCount
	b.SetProbePermission(m.mayProbe)
	return m
}

func (m *worker) wakeUp() {
	select {
	case m.wakeups <- struct{}{}:
	default: // there is a token
	}
}

// offer hands over a decision. If there are several, only the newest matters.
func (m *worker) offer(s store.State) {
	for {
		old := m.published.Load()
		if old != nil && old.Epoch >= s.Epoch || m.published.CompareAndSwap(old, &s) {
			break
		}
	}
	m.wakeUp()
}

// run does what there is to do until ctx is done, and gives the lease back.
func (m *worker) run(ctx context.Context) {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = minBackoff, maxBackoff
	for ctx.Err() == nil {
		if s := m.published.Swap(nil); s != nil {
			m.handlePublished(*s)
		}
		if m.resync.Swap(false) {
			m.syncAt = time.Time{}
		}
		r, wake := m.next(time.Now())
		m.epoch.Store(m.known.Epoch)
		if r.kind == noRequest {
			m.sleep(ctx, wake)
			continue
		}
		sent := time.Now()
		a := r.send(ctx, m.coordinator)
		m.handleResponse(&r, a, sent, time.Now())
		if a.err == nil {
			if !m.anyFailing(time.Now()) {
				wait.Reset()
			}
			continue
		}
		m.backOff(ctx, wait.NextBackOff())
	}
	m.completeCommand(nil, ctx.Err())
	if r := m.releaseLease(); r.kind != noRequest {
		r.state.Service = m.service
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer cancel()
		_ = r.send(last, m.coordinator) // otherwise it ends by itself
	}
}

// sleep returns when there may be something to do.
func (m *worker) sleep(ctx context.Context, wake time.Time) {
	var timeout <-chan time.Time
	if !wake.IsZero() {
		t := time.NewTimer(time.Until(wake))
		defer t.Stop()
		timeout = t.C
	}
	select {
	case <-ctx.Done():
	case <-m.wakeups:
	case m.protocol.command = <-m.commands:
	case <-timeout:
	}
}

// backOff waits after a request that failed. An order that comes meanwhile fails like it.
func (m *worker) backOff(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case m.protocol.command = <-m.commands:
	case <-t.C:
	}
}
