package upload

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"time"

	"cbproxy/internal/httpserver"
)

// Limits on reading the rest of a body after the response.
const (
	smallUpload = 256 << 10 // size in bytes of a body that is read to its end, so that the connection can be reused
	// minDrainTime limits the time for the rest of a larger body, unless the deadline of the request is later. Until then each read
	// may take Config.ReadTimeout, after it shortReadTimeout.
	minDrainTime = 5 * time.Second
	// maxDrainBytes is how many bytes are read at most, or Config.MaxBytes if that is more. A body that is too large or whose end
	// is not detected has more.
	maxDrainBytes = 32 << 20
	// drainBufferSize is the size in bytes of the buffer for each such client.
	drainBufferSize = 4 << 10
)

// PrepareResponse is called before a response of the proxy itself, with its header. The rest of the body must never be read as
// the next request. If the body is small, PrepareResponse reads the rest; otherwise it sets the field Connection to close.
func (b *Body) PrepareResponse(h http.Header) {
	r := b.config.Request
	if !b.Incomplete() || r.ProtoMajor > 1 {
		return
	}
	if b.size >= 0 && b.size <= min(smallUpload, b.config.MaxBytes) && b.Err() == nil && r.Header["Expect"] == nil {
		b.setDeadline(time.Now().Add(shortReadTimeout))
		b.discard()
		b.setDeadline(time.Time{})
	}
	if b.Incomplete() {
		h["Connection"] = []string{"close"}
	}
}

// discard reads the rest of the body.
func (b *Body) discard() {
	b.readMu.Lock()
	defer b.readMu.Unlock()
	buffer := readBuffers.Get().(*[readBufferSize]byte)
	defer readBuffers.Put(buffer)
	for {
		if _, err := b.receive(buffer[:]); err != nil {
			return // receive has recorded the error
		}
	}
}

// DrainAfterResponse reads the rest of the body after the response has been sent. A client that reads the response only after it
// has sent the whole body would otherwise find the connection closed and lose the response. HTTP/2 does not need this. It reads
// nothing if the response has no Content-Length, because the end of such a response is sent only when the handler returns.
// deadline is that of the request; clientFailed is true if the client was too slow.
func (b *Body) DrainAfterResponse(deadline time.Time, clientFailed bool) {
	r := b.config.Request
	if b.source == nil || b.ended.Load() || r.ProtoMajor > 1 {
		return
	}
	b.setDeadline(time.Now().Add(shortReadTimeout)) // net/http also reads the rest, and must not wait without limit
	failed := clientFailed || b.Err() != nil && b.Err() != ErrTooLarge
	notRequested := b.read.Load() == 0 && r.Header["Expect"] != nil
	complete := b.config.Writer.Header()["Content-Length"] != nil // Flush sends the whole response
	if notRequested || failed || !complete || http.NewResponseController(b.config.Writer).Flush() != nil {
		return
	}
	limit := b.limitDrain(deadline)
	defer limit.stop()
	rest, buffer := b.drainReader(), make([]byte, drainBufferSize)
	for left := max(maxDrainBytes, b.config.MaxBytes); left > 0 && limit.next(); {
		n, err := rest.Read(buffer)
		if err != nil {
			return
		}
		left -= int64(n)
	}
}

// drainLimit limits the time for the rest of a body after the response.
type drainLimit struct {
	body          *Body
	deadline, end time.Time       // the request's deadline, and when draining ends
	shutdown      context.Context // ends when the server begins to shut down
	stop          func() bool
}

// limitDrain starts to limit the reads of the body; stop must be called.
func (b *Body) limitDrain(deadline time.Time) *drainLimit {
	l := &drainLimit{body: b, deadline: deadline, end: time.Now().Add(minDrainTime), shutdown: httpserver.ShutdownContext(b.config.Request.Context())}
	if deadline.After(l.end) {
		l.end = deadline
	}
	l.stop = context.AfterFunc(l.shutdown, func() { b.setDeadline(time.Now().Add(shortReadTimeout)) })
	return l
}

// next sets the deadline of the next read. It reports false if there must be none.
func (l *drainLimit) next() bool {
	now, pause := time.Now(), l.body.config.ReadTimeout
	if pause <= 0 || now.After(l.deadline) {
		pause = shortReadTimeout
	}
	if http.NewResponseController(l.body.config.Writer).SetReadDeadline(earlier(now.Add(pause), l.end)) != nil {
		return false
	}
	if l.shutdown.Err() != nil { // last, as the shutdown may have begun before the deadline was set
		l.end = earlier(now.Add(minDrainTime), l.end)
		l.body.setDeadline(earlier(now.Add(shortReadTimeout), l.end))
	}
	return now.Before(l.end)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// drainReader returns what DrainAfterResponse reads. After FailRead, net/http's chunked reader returns
// the error at each read, although the client may still be sending.
func (b *Body) drainReader() io.Reader {
	c, ok := httpserver.ConnOf(b.config.Request.Context())
	if ok && b.size < 0 && b.readFailed.Load() {
		return &rawChunks{reader: c.NetConn()}
	}
	return b.source
}

// rawChunks reads a chunked body undecoded. It ends with what looks like the last chunk.
type rawChunks struct {
	reader io.Reader
	tail   []byte // the last bytes that were read
}

var lastChunk = []byte("0\r\n\r\n")

func (r *rawChunks) Read(p []byte) (int, error) {
	n, err := r.reader.Read(p)
	r.tail = append(r.tail, p[max(0, n-len(lastChunk)):n]...)
	r.tail = r.tail[max(0, len(r.tail)-len(lastChunk)):]
	if err == nil && bytes.Equal(r.tail, lastChunk) {
		err = io.EOF
	}
	return n, err
}
