package proxy

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"time"

	"cbproxy/internal/httpserver"
)

// Limits on reading the rest of an upload whose response is sent before its end.
const (
	smallUpload = 256 << 10 // bytes of an upload that is read to its end, so that the connection can be kept
	// lingerTime is the minimum time for the rest of a larger one. It may take until the route's timeout has passed since the
	// request's start, with pauses of limits.read_header_timeout.
	lingerTime = 5 * time.Second
	// lingerPause is the longest pause before the response, and after the route's timeout or during the server's shutdown.
	lingerPause = time.Second
	// lingerBytes is how much is read, in bytes, of a body that is too large, or whose end is not detected.
	lingerBytes = 32 << 20
	// lingerBuffer is the size in bytes of the buffer for each such client.
	lingerBuffer = 4 << 10
)

// endUpload is called before a response of the proxy's own. The rest of an upload must never be read as the next request: a
// small one is read to its end, and after a larger one the connection is closed.
func (x *exchange) endUpload(h http.Header) {
	if !x.upload.incomplete() || x.r.ProtoMajor > 1 {
		return
	}
	n := x.r.ContentLength
	if n >= 0 && n <= min(smallUpload, x.upload.limit) && x.upload.readError() == nil && x.r.Header["Expect"] == nil {
		control := http.NewResponseController(x.w)
		_ = control.SetReadDeadline(time.Now().Add(lingerPause))
		x.upload.discard()
		_ = control.SetReadDeadline(time.Time{})
	}
	if x.upload.incomplete() {
		h["Connection"] = []string{"close"}
	}
}

// uploadLimit limits the time in which a client that has its response sends the rest of its body.
type uploadLimit struct {
	x        *exchange
	end      time.Time
	draining context.Context // ends when the server begins to shut down
	stop     func() bool
}

// limitUpload starts to limit the reads of the exchange's body; close must be called.
func (x *exchange) limitUpload() *uploadLimit {
	l := &uploadLimit{x: x, end: time.Now().Add(lingerTime), draining: httpserver.Draining(x.r.Context())}
	if end := x.began.Add(x.timeout()); end.After(l.end) {
		l.end = end
	}
	l.stop = context.AfterFunc(l.draining, func() {
		_ = l.set(time.Now().Add(lingerPause)) // without deadlines, the client delays only itself
	})
	return l
}

func (l *uploadLimit) close() { l.stop() }

func (l *uploadLimit) set(deadline time.Time) error {
	return http.NewResponseController(l.x.w).SetReadDeadline(deadline)
}

// next sets the deadline of the next read. It reports false if there must be none.
func (l *uploadLimit) next() bool {
	now, pause := time.Now(), l.x.upload.pauseTimeout
	if pause <= 0 || now.After(l.x.began.Add(l.x.timeout())) {
		pause = lingerPause
	}
	if l.set(earlier(now.Add(pause), l.end)) != nil {
		return false
	}
	if l.draining.Err() != nil { // last, as the shutdown may have begun before the deadline was set
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

// linger reads the rest of a body whose response has been sent: a client that reads only after it has sent all would otherwise
// find a closed connection and lose the response. HTTP/2 does not need this. A lingering request has no permits of the limits
// on requests in flight, and uses little memory.
func (x *exchange) linger() {
	if x.upload.body == nil || x.upload.ended.Load() || x.r.ProtoMajor > 1 {
		return
	}
	control := http.NewResponseController(x.w)
	_ = control.SetReadDeadline(time.Now().Add(lingerPause)) // net/http reads on as well, and must not wait for ever
	fault := x.upload.readError()
	if x.timer != nil && context.Cause(x) == errSlowClient {
		fault = errSlowClient
	}
	unasked := x.upload.read.Load() == 0 && x.r.Header["Expect"] != nil
	complete := x.w.Header()["Content-Length"] != nil // a flush sends all of the response
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

// restOfUpload returns what linger reads. net/http's chunked reader remembers a read that was made to fail, and reads nothing
// more from a client that is still sending.
func (x *exchange) restOfUpload() io.Reader {
	c, ok := httpserver.ConnOf(x.r.Context())
	if ok && x.r.ContentLength < 0 && x.upload.interrupted.Load() {
		return &rawChunks{reader: c.NetConn()}
	}
	return x.upload.body
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
