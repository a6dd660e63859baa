package mirror

import (
	"context"

	"cbproxy/internal/store"
)

// release removes a message that another instance has taken over. has is whether it is still in the store, because it is being sent, or
// after an error; releaseRest then repeats the call.
func (m *Mirror) release(seq uint64) (has bool, err error) {
	has, err = m.queue.ReleaseToPeer(seq)
	if has {
		m.unreleased[seq] = true
		m.releasing.Store(true)
	}
	return has, asLocal(err)
}

// releaseRest repeats release for the messages that were being sent.
func (m *Mirror) releaseRest() error {
	for seq := range m.unreleased {
		has, err := m.queue.ReleaseToPeer(seq)
		if err != nil {
			m.suspend()
			return asLocal(err)
		}
		if !has {
			delete(m.unreleased, seq)
			m.RecordRemoved(seq)
		}
	}
	m.releasing.Store(len(m.unreleased) > 0)
	return nil
}

// withdraw removes the copies, and then the heartbeat, because copying is disabled. Without heartbeats other instances would take over what
// has copies. It is repeated while a message that another instance has taken over is being sent.
func (m *Mirror) withdraw(ctx context.Context) error {
	for cursor := uint64(0); ; {
		copies, next, err := m.copies.Scan(ctx, m.service, cursor)
		if err != nil {
			return err
		}
		var obsolete []uint64
		for seq, c := range copies {
			keep := false
			if c.State == store.CopyTakenOver {
				if keep, err = m.reconcileCopy(seq, c); err != nil {
					return err
				}
			}
			if !keep {
				obsolete = append(obsolete, seq)
			}
		}
		if len(obsolete) > 0 {
			if err := m.copies.Drop(ctx, m.service, obsolete); err != nil {
				return err
			}
		}
		if err := m.heartbeat(ctx); err != nil {
			return err
		}
		if !m.reconciled {
			return nil // the heartbeat had expired, and other instances may have taken messages over
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	if len(m.unreleased) > 0 {
		return nil
	}
	if err := m.copies.RemoveHeartbeat(ctx, m.service); err != nil {
		return err
	}
	m.withdrawn, m.reconciled = true, false
	m.unavailable.Store(true)
	return nil
}
