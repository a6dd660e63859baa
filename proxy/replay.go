package proxy

import (
	"errors"
	"io"
	"sync"
)

// maxReplayed is the size in bytes of the largest body that is retained to be sent again.
const maxReplayed = 64 << 10

var errSuperseded = errors.New("another attempt sends the body now")

// replay retains a client's body as it is read for the first time, so that it can be sent again: all of it, or the part that
// was read and then the rest. Only the newest reader is in use, but a transport may still read from an older one. Until more
// has been read than is retained, a separate goroutine reads from the client, so that a reader that is closed returns at once
// and what arrives is available to the next one.
type replay struct {
	body *requestBody

	mu      sync.Mutex // guards the fields below, and those of readers
	kept    []byte
	lost    bool          // more has been read than is retained, or the body will not be sent again
	end     error         // the error that ended the body
	current *replayReader // the one that may read
	pulling bool          // pull is running
	changed chan struct{} // closed at the next change; nil: no reader waits
}

// replayReader is the body of one request to the upstream.
type replayReader struct {
	replay *replay
	offset int  // bytes of the retained body that have been read
	direct bool // it reads from the client itself
	begun  bool // Read has been called
	closed bool // Close was called after that
}

// nextReader returns the body for another request. ok is false if the body can't be sent again; the previous reader stays in
// use then. A nil replay has a nil body.
func (p *replay) nextReader() (io.ReadCloser, bool) {
	if p == nil {
		return nil, true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.wholeLocked() {
		return nil, false
	}
	p.current = &replayReader{replay: p}
	p.wake()
	return p.current, true
}

// whole reports whether the body can be sent again. A nil replay is always whole.
func (p *replay) whole() bool {
	if p == nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wholeLocked()
}

func (p *replay) wholeLocked() bool { return !p.lost && (p.end == nil || p.end == io.EOF) }

// forget stops retaining, as the request has a response. A nil replay retains nothing.
func (p *replay) forget() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost = true
	if p.current.offset == len(p.kept) {
		p.kept, p.current.offset = nil, 0
	}
}

// wake makes the waiting reader check for changes.
func (p *replay) wake() {
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

func (r *replayReader) Read(b []byte) (int, error) {
	p := r.replay
	p.mu.Lock()
	defer p.mu.Unlock()
	r.begun = true
	for {
		switch {
		case p.current != r || r.closed:
			return 0, errSuperseded
		case r.offset < len(p.kept):
			n := copy(b, p.kept[r.offset:])
			r.offset += n
			return n, nil
		case p.end != nil:
			return 0, p.end
		case p.lost && !p.pulling:
			p.kept, r.offset = nil, 0
			return r.readDirect(b)
		case !p.pulling:
			p.pulling = true
			go p.pull()
		}
		if p.changed == nil {
			p.changed = make(chan struct{})
		}
		changed := p.changed
		p.mu.Unlock()
		<-changed
		p.mu.Lock()
	}
}

// readDirect reads from the client without retaining; p.mu is held before and after.
func (r *replayReader) readDirect(b []byte) (int, error) {
	p := r.replay
	r.direct = true
	p.mu.Unlock()
	n, err := p.body.Read(b)
	p.mu.Lock()
	r.direct = false
	p.end = err
	return n, err
}

// pull reads from the client once.
func (p *replay) pull() {
	buffer := copyBuffers{}.Get()
	defer copyBuffers{}.Put(buffer)
	n, err := p.body.Read(buffer)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pulling, p.end = false, err
	p.kept = append(p.kept, buffer[:n]...)
	p.lost = p.lost || len(p.kept) > maxReplayed
	p.wake()
}

// Close ends a read that is under way, for which the transport may wait. If no read has begun it does nothing: over HTTP/2,
// http.Transport closes the body of a request that it could not send on a connection, and then sends the same request with the
// same body on another one.
func (r *replayReader) Close() error {
	p := r.replay
	p.mu.Lock()
	r.closed = r.begun
	p.wake()
	direct := r.direct
	p.mu.Unlock()
	if direct {
		p.body.x.abortRead()
	}
	return nil
}
