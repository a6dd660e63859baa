package http1

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	flushSize    = 4 << 10  // buffered bytes that are sent without waiting for more
	maxBuffered  = 40 << 10 // limit of the write buffer; a longer Write is not copied into it
	sniffSize    = 512      // bytes of a body that determine its content type
	maxHeldBytes = 2 << 10  // bytes of a body of unknown length that are held back: if it is no longer, it gets a Content-Length
)

var writeBuffers = sync.Pool{New: func() any { b := make([]byte, 0, flushSize); return &b }}

func putWriteBuffer(b *[]byte) {
	if cap(*b) <= 2*maxBuffered {
		writeBuffers.Put(b)
	}
}

// response is an http.ResponseWriter that behaves like that of net/http's server. As there, its methods are not safe for
// concurrent use, except for those that set deadlines.
type response struct {
	conn    *serverConn
	context requestContext // of the request
	isHead  bool           // the request's method is HEAD
	header  http.Header

	status     int      // 0: the handler has set none
	length     int64    // of the body, as announced by the handler; -1: unknown
	hasType    bool     // the handler has set the content type, or that there is none
	hasDate    bool     // the handler has set a Date
	trailers   []string // announced by the handler
	closeAfter bool     // the connection is closed after this response

	headerDone bool   // the header section is complete
	held       []byte // start of the body, until the header section is complete
	chunked    bool   // the body is sent in chunks
	written    int64  // bytes of the body

	out *[]byte // write buffer; nil until the handler writes, so that a waiting handler occupies no memory for it
	err error   // of the first write that failed
}

var (
	_ http.ResponseWriter = (*response)(nil)
	_ http.Flusher        = (*response)(nil)
)

func newResponse(c *serverConn) *response {
	w := &response{conn: c, header: make(http.Header), length: -1}
	w.context.Context = c.context
	return w
}

// Header implements http.ResponseWriter.
func (w *response) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter. An interim response is sent at once.
func (w *response) WriteHeader(status int) {
	switch {
	case w.status != 0:
		return
	case status < 100 || status > 999:
		panic(fmt.Sprintf("http1: invalid status code %d", status))
	case status < 200 && status != http.StatusSwitchingProtocols:
		w.appendStatus(status)
		w.appendFields(func(name string) bool { return name != "Content-Length" && name != "Transfer-Encoding" })
		*w.out = append(*w.out, "\r\n"...)
		w.flush()
		return
	}
	w.status = status
	w.closeAfter = w.conn.server.shuttingDown.Load()
	if s := w.header["Content-Length"]; len(s) > 0 && s[0] != "" {
		if n, err := strconv.ParseInt(s[0], 10, 64); err == nil && n >= 0 {
			w.length = n
		} else {
			delete(w.header, "Content-Length")
		}
	}
	if s := w.header["Connection"]; len(s) > 0 && s[0] == "close" {
		w.closeAfter = true
	}
	_, w.hasType = w.header["Content-Type"]
	if s := w.header["Content-Encoding"]; len(s) > 0 && s[0] != "" {
		w.hasType = true // the type can't be detected from encoded bytes
	}
	_, w.hasDate = w.header["Date"]
	w.parseTrailerNames()
	w.appendStatus(status)
	w.appendFields(w.isSent)
}

// Write implements http.ResponseWriter. Short writes are buffered.
func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case len(p) == 0:
		return 0, nil
	case !bodyAllowed(w.status):
		return 0, http.ErrBodyNotAllowed
	}
	w.written += int64(len(p))
	if w.length >= 0 && w.written > w.length {
		return 0, http.ErrContentLength
	}
	if !w.headerDone {
		if w.length < 0 && len(w.held)+len(p) <= maxHeldBytes {
			w.held = append(w.held, p...)
			return len(p), w.err
		}
		w.endHeader(p, false)
	}
	w.writeBody(p)
	return len(p), w.err
}

// writeBody buffers p, and sends the buffer if it is large enough and the body does not end here.
func (w *response) writeBody(p []byte) {
	if w.isHead || w.err != nil {
		return
	}
	if w.chunked {
		*w.out = append(strconv.AppendInt(*w.out, int64(len(p)), 16), "\r\n"...)
	}
	if len(*w.out)+len(p) > maxBuffered {
		w.flush()
		w.writeConn(p)
	} else {
		*w.out = append(*w.out, p...)
	}
	if w.chunked {
		*w.out = append(*w.out, "\r\n"...)
	}
	if len(*w.out) >= flushSize && w.written != w.length {
		w.flush()
	}
}

// flush sends the write buffer.
func (w *response) flush() {
	w.writeConn(*w.out)
	*w.out = (*w.out)[:0]
}

func (w *response) writeConn(p []byte) {
	if w.err != nil || len(p) == 0 {
		return
	}
	if _, w.err = w.conn.Write(p); w.err != nil {
		w.context.cancel() // the client has disconnected
	}
}

// Flush implements http.Flusher.
func (w *response) Flush() { _ = w.FlushError() }

// FlushError supports http.ResponseController.
func (w *response) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !w.headerDone {
		w.endHeader(nil, false)
	}
	w.flush()
	return w.err
}

// EnableFullDuplex supports http.ResponseController. It does nothing: the request has arrived completely.
func (w *response) EnableFullDuplex() error { return nil }

// SetReadDeadline supports http.ResponseController. It does nothing: the request has arrived completely.
func (w *response) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline supports http.ResponseController. It is safe for concurrent use.
func (w *response) SetWriteDeadline(t time.Time) error { return w.conn.SetWriteDeadline(t) }

// finish completes the response. It reports whether the connection can carry another one. In that case the rest of the response is
// in out, and must be sent.
func (w *response) finish() bool {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !w.headerDone {
		w.endHeader(nil, true)
	}
	if w.chunked {
		*w.out = append(*w.out, "0\r\n"...)
		w.appendTrailers()
		*w.out = append(*w.out, "\r\n"...)
	}
	incomplete := w.length >= 0 && w.written != w.length && !w.isHead && bodyAllowed(w.status)
	if w.closeAfter || incomplete || w.err != nil {
		w.close()
		return false
	}
	_ = w.conn.SetWriteDeadline(time.Time{}) // clear a deadline that the handler has set
	return true
}

// close sends the write buffer and releases it. The connection is closed after it.
func (w *response) close() {
	if w.out == nil {
		return
	}
	if w.headerDone {
		w.flush()
	}
	putWriteBuffer(w.out)
}
