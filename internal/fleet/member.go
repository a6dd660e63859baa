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
	firstWait = 100 * time.Millisecond // after a request that failed
	longWait  = 4 * time.Second        // after many
	farewell  = 500 * time.Millisecond // for the last request before the process ends
)

// A member is a participant with a goroutine, which asks Redis for it.
type member struct {
	*participant
	board Coordinator

	pokes  chan struct{}               // holds a token if there may be something to do
	news   atomic.Pointer[store.State] // the newest decision that was published and not yet heard
	stale  atomic.Bool                 // decisions may have been missed
	orders chan *order
	epoch  atomic.Uint64 // of the last decision known
	leave  context.CancelFunc
}

func newMember(service string, b *breaker.Breaker, f *Fleet) *member {
	m := &member{
		participant: newParticipant(service, f.config.Instance, b), board: f.config.Coordinator,
		pokes: make(chan struct{}, 1), orders: make(chan *order), leave: func() {},
	}
	m.share, m.period, m.participant.poke = f.config.Sharing, f.period, m.poke
	m.heard, m.tokens = &f.heard, &f.tokens
	b.SetProbePermission(m.turn)
	return m
}

func (m *member) poke() {
	select {
	case m.pokes <- struct{}{}:
	default: // there is a token
	}
}

// tell hands over a decision. If there are several, only the newest matters.
func (m *member) tell(s store.State) {
	for {
		old := m.news.Load()
		if old != nil && old.Epoch >= s.Epoch || m.news.CompareAndSwap(old, &s) {
			break
		}
	}
	m.poke()
}

// run does what there is to do until ctx is done, and gives the lease back.
func (m *member) run(ctx context.Context) {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = firstWait, longWait
	for ctx.Err() == nil {
		if s := m.news.Swap(nil); s != nil {
			m.hear(*s)
		}
		if m.stale.Swap(false) {
			m.compareAt = time.Time{}
		}
		r, wake := m.next(time.Now())
		m.epoch.Store(m.known.Epoch)
		if r.kind == nothing {
			m.sleep(ctx, wake)
			continue
		}
		sent := time.Now()
		a := r.perform(ctx, m.board)
		m.answer(&r, a, sent, time.Now())
		if a.err == nil {
			if !m.fails(time.Now()) {
				wait.Reset()
			}
			continue
		}
		m.rest(ctx, wait.NextBackOff())
	}
	m.finishOrder(nil, ctx.Err())
	if r := m.giveUp(); r.kind != nothing {
		r.state.Service = m.service
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		_ = r.perform(last, m.board) // otherwise it ends by itself
	}
}

// sleep returns when there may be something to do.
func (m *member) sleep(ctx context.Context, wake time.Time) {
	var timeout <-chan time.Time
	if !wake.IsZero() {
		t := time.NewTimer(time.Until(wake))
		defer t.Stop()
		timeout = t.C
	}
	select {
	case <-ctx.Done():
	case <-m.pokes:
	case m.participant.order = <-m.orders:
	case <-timeout:
	}
}

// rest waits after a request that failed. An order that comes meanwhile fails like it.
func (m *member) rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case m.participant.order = <-m.orders:
	case <-t.C:
	}
}
