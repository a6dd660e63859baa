package proxy

import (
	"errors"
	"io"
	"sync"
)

// maxReplayed is the size of a body that is kept so that it can be sent again.
const maxReplayed = 64 << 10

var errSuperseded = errors.New("another attempt sends the body now")

// replay keeps a client's body as it is read for the first time, so that it can be sent again: all of it, or what there
// was until now and then the rest. Only one reader is in use at a time, but a transport may go on using an older one.
// Until more has been read than is kept, a goroutine of its own waits for the client, so that a reader that is closed
// returns at once and what comes for it is there for the next one.
type replay struct {
	body *requestBody

	mu      sync.Mutex // guards what follows, and the offsets and states of readers
	kept    []byte
	lost    bool          // more has been read than is kept, or it will not be sent again
	end     error         // what the body ended with
	current *replayReader // the one that may read
	pulling bool          // pull runs
	changed chan struct{} // closed with the next change; nil: no reader waits
}

// replayReader is the body of one request to the upstream.
type replayReader struct {
	replay *replay
	offset int  // how much of what is kept has been read
	direct bool // it waits for the client itself
	begun  bool // Read has been called
	closed bool // after it was begun
}

// nextReader returns the body for another request. It is false if the body can't be sent again, and the reader before it
// stays in use then. A nil replay has a nil body.
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

// forget keeps no more, as the request has an answer. A nil replay keeps nothing.
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

// wake makes the reader that waits look again.
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

// readDirect waits for the client with no copy kept; p.mu is held before and after.
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

// Close ends a read that is under way, for which the transport may wait. The body outlives the request, save where it is
// not kept. Where no read has begun it does nothing: over HTTP/2, http.Transport closes the body of a request that it could
// not send on a connection, and then sends the same request with the same body on another one.
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
