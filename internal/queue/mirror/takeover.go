package mirror

import (
	"cmp"
	"context"
	"time"

	"cbproxy/internal/store"
)

// takeover is a message of another instance that is in the store, and whose takeover Redis has not confirmed.
type takeover struct {
	seq      uint64
	from     store.Claimed // without the payload
	repeated bool          // a previous attempt to complete it has failed
}

// takeOver takes over the messages of failed instances, as many as the queue has capacity for.
func (m *Mirror) takeOver(ctx context.Context) error {
	if time.Since(m.lastTakeoverCheck) < m.timings.TakeoverCheck {
		return nil
	}
	m.lastTakeoverCheck = time.Now()
	total := 0
	defer func() {
		if total > 0 {
			m.queue.AddTakenOver(total)
			m.logger.Info("took over queued requests of a failed instance", "requests", total)
		}
	}()
	for ctx.Err() == nil {
		free := m.queue.FreeCapacity()
		if free <= 0 {
			break
		}
		claimed, err := m.copies.Claim(ctx, m.service, min(free, batchSize))
		if err != nil {
			return cmp.Or(m.postponeTakeovers(ctx), ctx.Err()) // if Redis is unavailable, this fails, too
		}
		if len(claimed) == 0 {
			break
		}
		for i := range claimed {
			seq, err := m.queue.AcceptFromPeer(ctx, claimed[i].Payload)
			if err != nil {
				if ctx.Err() == nil {
					m.logStoreError("cannot store requests of a failed instance, leaving them to others", err)
				}
				return m.postponeTakeovers(ctx)
			}
			claimed[i].Payload = nil
			m.unconfirmed = &takeover{seq: seq, from: claimed[i]}
			total++
			if err := m.completeTakeover(ctx); err != nil {
				return err
			}
			if err := m.heartbeat(ctx); err != nil { // a slow disk takes longer than Expiry
				return err
			}
			if !m.reconciled { // other instances may have claimed the rest
				return nil
			}
		}
	}
	return nil
}

// takeoverPause is the number of takeover checks that an instance omits if it could not take over what it had claimed, so that other
// instances can.
const takeoverPause = 10

// postponeTakeovers makes what this instance has claimed available to other instances. It must not keep it, because no other instance may
// claim it while this one sends heartbeats.
func (m *Mirror) postponeTakeovers(ctx context.Context) error {
	if err := m.copies.Release(ctx, m.service); err != nil {
		return err // Redis is unavailable, and the pause is not needed
	}
	m.lastTakeoverCheck = time.Now().Add(takeoverPause * m.timings.TakeoverCheck)
	return nil
}

// completeTakeover makes the copy of the unconfirmed takeover this instance's, or releases the message if another instance has it. After an
// error it must be repeated, before the message is copied and before others are taken over.
func (m *Mirror) completeTakeover(ctx context.Context) error {
	t := m.unconfirmed
	if t == nil {
		return nil
	}
	// Do this even if the process is about to end, because otherwise another instance takes the message over again.
	has, err := m.copies.CompleteTakeover(context.WithoutCancel(ctx), m.service, t.seq, &t.from, m.retention(), t.repeated)
	if err != nil {
		t.repeated = true
		return err
	}
	m.unconfirmed = nil
	if !has {
		_, err := m.release(t.seq)
		return err
	}
	if !t.repeated {
		return nil
	}
	has, err = m.store.Has(m.service, t.seq)
	if err == nil && !has {
		m.RecordRemoved(t.seq) // dropCopies may have run since it was removed
	}
	return asLocal(err)
}
