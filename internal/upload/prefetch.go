package upload

import "io"

// MaxPrefetch is the size in bytes of the largest body that Prefetch reads.
const MaxPrefetch = 64 << 10

// Prefetch reads the whole body, of at most MaxPrefetch bytes, before a transport gets it. It waits for the client.
func (b *Body) Prefetch() error {
	b.retainForPrefetch()
	buffer := readBuffers.Get().(*[readBufferSize]byte)
	defer readBuffers.Put(buffer)
	b.readMu.Lock()
	defer b.readMu.Unlock()
	b.reading.Store(true)
	defer b.reading.Store(false)
	for {
		switch _, err := b.receive(buffer[:]); err {
		case nil:
		case io.EOF:
			return nil
		default:
			return err
		}
	}
}

// ReadArrived reads a short body that has arrived, and reports whether it is complete. Otherwise the part that was read is
// retained for the next bodyReader.
func (b *Body) ReadArrived() bool {
	if b.ended.Load() {
		return b.isRetained()
	}
	b.retainForPrefetch()
	buffer := readBuffers.Get().(*[readBufferSize]byte)
	defer readBuffers.Put(buffer)
	n, err := b.receiveForTransport(buffer[:b.size])
	if int64(n) == b.size && err == nil {
		_, err = b.receiveForTransport(buffer[n:n]) // read the end of the body, which has no more bytes
	}
	return int64(n) == b.size && (err == nil || err == io.EOF)
}

func (b *Body) retainForPrefetch() {
	b.retained.mu.Lock()
	defer b.retained.mu.Unlock()
	b.retained.forPrefetch = b.size
}

// isRetained reports whether the complete body is retained.
func (b *Body) isRetained() bool {
	b.retained.mu.Lock()
	defer b.retained.mu.Unlock()
	return !b.retained.truncated && b.retained.end == io.EOF
}
