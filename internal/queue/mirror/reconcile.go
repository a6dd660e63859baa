package mirror

import (
	"context"

	"cbproxy/internal/store"
)

// compareCounts detects lost or surplus copies by comparing the counts. It ignores differences for up to maxMismatches heartbeats, because
// copying takes time. When removedSeqs has overflowed, the surplus copies make the counts differ until the next reconciliation.
func (m *Mirror) compareCounts(copies int) {
	m.mu.Lock()
	removing, overflowed := len(m.removedSeqs), m.overflowed
	m.overflowed = false
	m.mu.Unlock()
	waiting, _ := m.store.Counts(m.service)
	if overflowed || max(copies-waiting, waiting-copies) > removing {
		m.mismatches++
	} else {
		m.mismatches = 0
	}
	if m.mismatches > maxMismatches {
		m.mismatches, m.reconciled = 0, false
	}
}

// reconcile compares every copy with the store. It releases the messages that other instances have taken over, keeps other instances from
// taking over the rest, removes the copies of messages that are not in the store, and makes pushCopies add the missing copies.
func (m *Mirror) reconcile(ctx context.Context) error {
	cursor := uint64(0)
	for {
		copies, next, err := m.copies.Scan(ctx, m.service, cursor)
		if err != nil {
			return err
		}
		present, obsolete, err := m.reconcileCopies(ctx, copies)
		if err != nil {
			return err
		}
		if len(present) > 0 {
			takenOver, err := m.copies.Reclaim(ctx, m.service, present)
			if err != nil {
				return err
			}
			_, more, err := m.reconcileCopies(ctx, takenOver) // since Scan
			if err != nil {
				return err
			}
			obsolete = append(obsolete, more...)
		}
		if len(obsolete) > 0 {
			if err := m.copies.Drop(ctx, m.service, obsolete); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	m.copiedUpTo = 0 // pushCopies checks all messages
	return nil
}

// reconcileCopies compares copies with the store. It returns the messages that the store has and no other instance has taken over, and those
// whose copies are to be removed.
func (m *Mirror) reconcileCopies(ctx context.Context, copies map[uint64]store.Copy) (present, obsolete []uint64, err error) {
	for seq, c := range copies {
		keep, err := m.reconcileCopy(seq, c)
		switch {
		case err != nil:
			return nil, nil, err
		case !keep:
			obsolete = append(obsolete, seq)
		case c.State == store.CopyPresent:
			present = append(present, seq)
		}
		if err := m.heartbeat(ctx); err != nil { // a long backlog and a slow disk take longer than Expiry
			return nil, nil, err
		}
	}
	return present, obsolete, nil
}

// reconcileCopy compares one copy with the store. It removes the message from the store if another instance has taken it over. keep is
// whether the store still has the message, so that the copy must stay.
func (m *Mirror) reconcileCopy(seq uint64, c store.Copy) (keep bool, err error) {
	if c.State != store.CopyTakenOver {
		keep, err := m.store.Has(m.service, seq)
		return keep, asLocal(err)
	}
	r, dead, found, err := m.store.Get(m.service, seq)
	if err != nil || !found || dead || store.Digest(r.Payload) != c.Digest {
		return false, asLocal(err)
	}
	return m.release(seq)
}

// dropCopies removes the copies of messages that were removed from the store.
func (m *Mirror) dropCopies(ctx context.Context) error {
	for {
		m.mu.Lock()
		batch := m.removedSeqs[:min(len(m.removedSeqs), batchSize)]
		m.mu.Unlock()
		if len(batch) == 0 {
			return nil
		}
		if err := m.copies.Drop(ctx, m.service, batch); err != nil {
			return err
		}
		m.mu.Lock()
		if m.removedSeqs = m.removedSeqs[len(batch):]; len(m.removedSeqs) == 0 {
			m.removedSeqs = nil
		}
		m.mu.Unlock()
	}
}

// pushCopies copies the messages that have no copy.
func (m *Mirror) pushCopies(ctx context.Context) error {
	for ctx.Err() == nil {
		records, err := m.store.Read(m.service, m.copiedUpTo, batchSize, batchBytes)
		if err != nil || len(records) == 0 {
			return asLocal(err)
		}
		last := records[len(records)-1].Seq
		seqs := make([]uint64, len(records))
		for i := range records {
			seqs[i] = records[i].Seq
		}
		states, err := m.copies.States(ctx, m.service, seqs)
		if err != nil {
			return err
		}
		var missing []store.CopyRecord
		for i := range records {
			if states[i] == store.CopyMissing {
				missing = append(missing, store.CopyRecord{Seq: records[i].Seq, Payload: records[i].Payload})
			}
		}
		if len(missing) > 0 {
			if err := m.copies.Push(ctx, m.service, missing); err != nil {
				return err
			}
		}
		m.copiedUpTo = last
		if err := m.heartbeat(ctx); err != nil { // a long backlog takes longer than Expiry
			return err
		}
	}
	return ctx.Err()
}
