package mirror

import (
	"context"
	"time"
)

// step makes the copies agree with the store, and takes over the messages of failed instances. While copying is disabled, it removes the
// copies instead.
func (m *Mirror) step(ctx context.Context) error {
	enabled := m.enabled()
	if !enabled && m.withdrawn {
		return nil
	}
	m.withdrawn = false
	if err := m.heartbeat(ctx); err != nil {
		return err
	}
	m.unavailable.Store(false) // Redis answers: the worker must wait for reconcile
	for !m.reconciled {
		lapses := m.lapses
		if err := m.reconcile(ctx); err != nil {
			return err
		}
		m.reconciled = m.lapses == lapses
	}
	if err := m.completeTakeover(ctx); err != nil {
		return err
	}
	if err := m.releaseRest(); err != nil {
		return err
	}
	m.extendAlive()
	m.queue.Notify()
	if !enabled {
		return m.withdraw(ctx)
	}
	if err := m.dropCopies(ctx); err != nil {
		return err
	}
	if err := m.pushCopies(ctx); err != nil {
		return err
	}
	return m.takeOver(ctx)
}

// retention returns how long copies are kept.
func (m *Mirror) retention() time.Duration { return m.queue.MaxAge() + retentionMargin }

// heartbeat sends a heartbeat if one is due. An instance that was considered dead must reconcile before it delivers anything.
func (m *Mirror) heartbeat(ctx context.Context) error {
	if !m.retrying && time.Since(m.lastHeartbeat) < m.timings.Heartbeat {
		return nil
	}
	at := time.Now()
	wasAlive, copies, err := m.copies.Heartbeat(ctx, m.service, m.timings.Expiry, m.retention())
	if err != nil {
		return err
	}
	m.lastHeartbeat, m.retrying = at, false
	if !wasAlive {
		m.lapses++
		m.suspend()
	}
	if m.reconciled {
		m.extendAlive()
		m.compareCounts(copies)
	}
	return nil
}

// extendAlive permits the worker to deliver messages until the last heartbeat expires.
func (m *Mirror) extendAlive() {
	m.aliveUntil.Store(int64(m.lastHeartbeat.Add(m.timings.Expiry).Sub(started)))
}

// suspend makes the worker wait until the messages are reconciled, unless Redis is unavailable.
func (m *Mirror) suspend() {
	m.reconciled = false
	m.aliveUntil.Store(0)
}
