package queue

import (
	"context"
	"time"

	"cbproxy/internal/store"
)

// takeOver takes over the messages of failed instances, as many as the queue has capacity for.
func (m *mirror) takeOver(ctx context.Context) error {
	if time.Since(m.lastTakeoverCheck) < m.timings.TakeoverCheck {
		return nil
	}
	m.lastTakeoverCheck = time.Now()
	total := 0
	for ctx.Err() == nil {
		free := m.queue.freeCapacity()
		if free <= 0 {
			break
		}
		claimed, err := m.copies.Claim(ctx, m.service, min(free, mirrorBatch))
		if err != nil {
			return err
		}
		if len(claimed) == 0 {
			break
		}
		for _, c := range claimed {
			if err := m.takeOverOne(ctx, c); err != nil {
				return err
			}
			total++
			if err := m.heartbeat(ctx); err != nil { // a slow disk takes longer than Expiry
				return err
			}
		}
	}
	if total > 0 {
		m.queue.addTakenOver(total)
		m.logger.Info("took over queued requests of a failed instance", "requests", total)
	}
	return nil
}

// takeOverOne adds one claimed message to the store and makes its copy this instance's. If Redis fails in between, the next call for the
// same copy does not add the message again.
func (m *mirror) takeOverOne(ctx context.Context, c store.Claimed) error {
	seq, retried := m.pendingTakeovers[c.ID]
	if !retried {
		var err error
		if seq, err = m.queue.acceptFromPeer(ctx, c.Payload); err != nil {
			return asLocal(err)
		}
		m.pendingTakeovers[c.ID] = seq
	}
	// Do this even if the process is about to end, because otherwise another instance takes the message over again.
	if err := m.copies.CompleteTakeover(context.WithoutCancel(ctx), m.service, seq, c, m.retention()); err != nil {
		return err
	}
	delete(m.pendingTakeovers, c.ID)
	if !retried {
		return nil
	}
	has, err := m.store.Has(m.service, seq)
	if err == nil && !has {
		m.recordRemoved(seq) // it was removed before it had a copy
	}
	return asLocal(err)
}
