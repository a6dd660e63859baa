package proxy

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

// maxReplayed is the size of a body that is kept for a retry.
const maxReplayed = 64 << 10

var errSuperseded = errors.New("another attempt sends the body now")

// replay keeps a client's body as it is read for the first time, so that it can be sent
// again: all of it, or what there was until now and then the rest. Only one reader is in use
// at a time, but the transport may hold on to an older one.
type replay struct {
	body *requestBody

	mu   sync.Mutex // held while the body is read; guards what follows
	kept []byte
	lost bool  // more has been read than is kept
	end  error // what the body ended with
	last *replayReader

	ending  sync.Mutex // guards what follows; may be taken under mu
	current *replayReader
	ended   bool // a read was made to fail: what is not kept can't be read any more
}

// replayReader is the body of one attempt.
type replayReader struct {
	replay *replay
	offset int // how much of what is kept has been read; guarded by replay's lock

	reading atomic.Bool // the client is awaited
	closed  atomic.Bool
}

// firstReader returns the first attempt's body, nil if there is none.
func (rs *retries) firstReader() io.ReadCloser {
	if rs.body == nil {
		return nil
	}
	rs.body.last = &replayReader{replay: rs.body}
	rs.body.current = rs.body.last
	return rs.body.last
}

// nextReader returns the body of another attempt, nil if there is none. It is false if the
// body can't be sent again, and the reader before it stays in use then.
func (rs *retries) nextReader() (io.ReadCloser, bool) {
	p := rs.body
	if p == nil {
		return nil, true
	}
	if !p.whole() || !p.mu.TryLock() {
		return nil, false
	}
	defer p.mu.Unlock()
	p.ending.Lock()
	defer p.ending.Unlock()
	if p.ended && p.end != io.EOF {
		return nil, false
	}
	p.last = &replayReader{replay: p}
	p.current = p.last
	return p.last, true
}

// whole reports whether the body can be sent again. It can't while it is being read: the
// bytes would go to the attempt that is over. A nil replay is always whole.
func (p *replay) whole() bool {
	if p == nil {
		return true
	}
	if !p.mu.TryLock() {
		return false
	}
	defer p.mu.Unlock()
	p.ending.Lock()
	defer p.ending.Unlock()
	return !p.lost && (p.end == nil && !p.ended || p.end == io.EOF)
}

func (r *replayReader) Read(b []byte) (int, error) {
	p := r.replay
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.last != r:
		return 0, errSuperseded
	case r.offset < len(p.kept):
		n := copy(b, p.kept[r.offset:])
		r.offset += n
		return n, nil
	case p.end != nil:
		return 0, p.end
	}
	r.reading.Store(true) // first, so that Close sees it or is seen
	defer r.reading.Store(false)
	if r.closed.Load() {
		return 0, errSuperseded
	}
	n, err := p.body.Read(b)
	p.end = err
	switch {
	case p.lost:
	case len(p.kept)+n > maxReplayed:
		p.lost, p.kept, r.offset = true, nil, 0
	default:
		p.kept = append(p.kept, b[:n]...)
		r.offset = len(p.kept)
	}
	return n, err
}

// Close ends a read that is under way, for which the transport may wait. The body outlives
// the attempt, but if the read ends by itself at that moment, what is to follow is lost.
func (r *replayReader) Close() error {
	r.closed.Store(true)
	p := r.replay
	p.ending.Lock()
	defer p.ending.Unlock()
	if p.current == r && r.reading.Load() {
		p.ended = true
		p.body.x.abortRead()
	}
	return nil
}
