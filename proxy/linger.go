package proxy

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"time"

	"cbproxy/internal/httpserver"
)

// How an answer given before the end of the upload is followed up.
const (
	smallUpload = 256 << 10 // is read to its end, so that the connection can be kept
	// lingerTime is the least time for the rest of a larger one. It may take until the route's
	// timeout has passed since the request's start, as if the upstream got it, with pauses of
	// limits.read_header_timeout.
	lingerTime = 5 * time.Second
	// lingerPause is how long a pause may be before the answer, and once the route's timeout has
	// passed or the server shuts down.
	lingerPause = time.Second
	// lingerBytes is how much of a body is read at most that is too large, or whose end is not
	// seen.
	lingerBytes = 32 << 20
	// lingerBuffer is the memory for what is read, of which there is one for each client.
	lingerBuffer = 4 << 10
)

// endUpload is called before an answer is given. What is left of an upload must never be
// read as the next request: a small one is read to its end, and after any other the
// connection is closed.
func (x *exchange) endUpload(h http.Header) {
	if !x.upload.left() || x.r.ProtoMajor > 1 {
		return
	}
	n := x.r.ContentLength
	if n >= 0 && n <= min(smallUpload, x.upload.limit) && x.upload.faulty() == nil && x.r.Header["Expect"] == nil {
		control := http.NewResponseController(x.w)
		_ = control.SetReadDeadline(time.Now().Add(lingerPause))
		x.upload.discard()
		_ = control.SetReadDeadline(time.Time{})
	}
	if x.upload.left() {
		h["Connection"] = []string{"close"}
	}
}

// uploadLimit bounds the time in which a client that has its answer sends the rest of its body.
type uploadLimit struct {
	x        *exchange
	end      time.Time
	draining context.Context // ends when the server begins to shut down
	stop     func() bool
}

// limitUpload begins to bound the reads of the exchange's body; close must be called.
func (x *exchange) limitUpload() *uploadLimit {
	l := &uploadLimit{x: x, end: time.Now().Add(lingerTime), draining: httpserver.Draining(x.r.Context())}
	if end := x.start.Add(x.timeout()); end.After(l.end) {
		l.end = end
	}
	l.stop = context.AfterFunc(l.draining, func() {
		_ = l.set(time.Now().Add(lingerPause)) // where it can't be set, the client holds only itself up
	})
	return l
}

func (l *uploadLimit) close() { l.stop() }

func (l *uploadLimit) set(deadline time.Time) error {
	return http.NewResponseController(l.x.w).SetReadDeadline(deadline)
}

// next sets the deadline of the next read. It reports false if there must be none.
func (l *uploadLimit) next() bool {
	now, pause := time.Now(), l.x.upload.pause
	if pause <= 0 || now.After(l.x.start.Add(l.x.timeout())) {
		pause = lingerPause
	}
	if l.set(earlier(now.Add(pause), l.end)) != nil {
		return false
	}
	if l.draining.Err() != nil { // last, as it may have begun before the deadline was set
		l.end = earlier(now.Add(lingerTime), l.end)
		_ = l.set(earlier(now.Add(lingerPause), l.end))
	}
	return now.Before(l.end)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// linger reads on when a client is still sending a body whose answer is out: a client that
// reads only after it has sent would otherwise meet a closed connection and lose the
// answer. HTTP/2 has no such trouble. It occupies nothing of the limits on requests in flight,
// and little memory.
func (x *exchange) linger() {
	if x.upload.body == nil || x.upload.ended.Load() || x.r.ProtoMajor > 1 {
		return
	}
	control := http.NewResponseController(x.w)
	_ = control.SetReadDeadline(time.Now().Add(lingerPause)) // net/http reads on as well, and must not wait for ever
	fault := x.upload.faulty()
	if x.clock != nil && context.Cause(x) == errSlowClient {
		fault = errSlowClient
	}
	unasked := x.upload.read.Load() == 0 && x.r.Header["Expect"] != nil
	complete := x.w.Header()["Content-Length"] != nil // a flush sends all of the answer, its end too
	if unasked || fault != nil && fault != errBodyTooLarge || !complete || control.Flush() != nil {
		return
	}
	limit := x.limitUpload()
	defer limit.close()
	rest := x.restOfUpload()
	buffer := make([]byte, lingerBuffer)
	for left := max(lingerBytes, x.upload.limit); left > 0 && limit.next(); {
		n, err := rest.Read(buffer)
		if err != nil {
			return
		}
		left -= int64(n)
	}
}

// restOfUpload is what linger reads. net/http's reader of chunks remembers a read that was made to fail, and so says
// nothing any more of a client that is still sending.
func (x *exchange) restOfUpload() io.Reader {
	c, ok := httpserver.ConnOf(x.r.Context())
	if ok && x.r.ContentLength < 0 && x.upload.interrupted.Load() {
		return &rawChunks{reader: c.NetConn()}
	}
	return x.upload.body
}

// rawChunks reads a chunked body as it is on the wire: where one chunk ends and another begins
// makes no difference. It ends with what looks like the last chunk.
type rawChunks struct {
	reader io.Reader
	tail   []byte // of what has been read
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
