package queue

// release removes a message that another instance has taken over. has is whether it is still in the store, because it is being sent, or
// after an error; releaseRest then repeats the call.
func (m *mirror) release(seq uint64) (has bool, err error) {
	has, err = m.queue.releaseToPeer(seq)
	if has {
		m.unreleased[seq] = true
		m.releasing.Store(true)
	}
	return has, asLocal(err)
}

// releaseRest repeats release for the messages that were being sent.
func (m *mirror) releaseRest() error {
	for seq := range m.unreleased {
		has, err := m.queue.releaseToPeer(seq)
		if err != nil {
			m.suspend()
			return asLocal(err)
		}
		if !has {
			delete(m.unreleased, seq)
			m.recordRemoved(seq)
		}
	}
	m.releasing.Store(len(m.unreleased) > 0)
	return nil
}
