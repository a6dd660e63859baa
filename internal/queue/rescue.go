package queue

import (
	"context"
	"time"

	"cbproxy/internal/store"
)

// rescue takes over what instances that are gone have left, as far as there is room.
func (m *mirror) rescue(ctx context.Context) error {
	if time.Since(m.looked) < m.times.Look {
		return nil
	}
	m.looked = time.Now()
	total := 0
	for ctx.Err() == nil {
		room := m.line.policy.Load().Capacity - int(m.line.depth.Load())
		if room <= 0 {
			break
		}
		claimed, err := m.copies.Claim(ctx, m.line.service, min(room, mirrorMessages))
		if err != nil {
			return err
		}
		if len(claimed) == 0 {
			break
		}
		for _, c := range claimed {
			if err := m.takeOver(ctx, c); err != nil {
				return err
			}
			total++
			if err := m.beat(ctx); err != nil { // a slow disk takes a while
				return err
			}
		}
	}
	if total > 0 {
		m.line.counts.adopted.Add(uint64(total))
		m.logger.Info("queued requests of an instance that is gone were taken over", "requests", total)
	}
	return nil
}

// takeOver makes one message that was claimed this instance's. Where Redis fails in between the
// next attempt goes on from there: the message is to be here once.
func (m *mirror) takeOver(ctx context.Context, c store.Claimed) error {
	seq, again := m.taken[c.ID]
	if !again {
		var err error
		if seq, err = m.admit(ctx, m.line, c.Payload); err != nil {
			return err
		}
		m.taken[c.ID] = seq
	}
	// Even if the process is about to end: somebody else would take it over again.
	if err := m.copies.Adopt(context.WithoutCancel(ctx), m.line.service, seq, c, m.keep()); err != nil {
		return err
	}
	delete(m.taken, c.ID)
	if !again {
		return nil
	}
	has, err := m.store.Has(m.line.service, seq)
	if err == nil && !has {
		m.gone(seq) // when it left it had no copy yet
	}
	return err
}
