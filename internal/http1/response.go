package http1

import (
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

const (
	sendFrom     = 4 << 10  // bytes that are sent without waiting for more
	sendTogether = 40 << 10 // the most that is put together to be sent at once; what is longer is sent as it is
	sniffed      = 512      // bytes of a body that tell its type
	holdUpTo     = 2 << 10  // bytes of a body of unknown length that are held back, as it may end with them
)

// responses lends what responses are put together in.
var responses = sync.Pool{New: func() any { b := make([]byte, 0, sendFrom); return &b }}

func release(b *[]byte) {
	if cap(*b) <= 2*sendTogether {
		responses.Put(b)
	}
}

// response is an http.ResponseWriter that does what net/http's does. As there, its methods are not safe for concurrent
// use, save those that set deadlines.
type response struct {
	conn    *serverConn
	context requestContext // of the request
	head    bool           // asked for by HEAD
	header  http.Header

	status   int      // 0: the handler has said none
	length   int64    // of the body, as the handler has announced it; -1: it has not
	typed    bool     // the handler has said what the body is, or that nothing is to be said of it
	dated    bool     // it has said when
	trailers []string // it has announced
	last     bool     // the connection ends behind this response

	begun   bool   // nothing can be added to the header section any more
	held    []byte // of the body, as long as that is not so
	chunked bool   // the body is sent in chunks
	written int64  // bytes of the body

	out *[]byte // is to be sent; nil: nothing was, so that who waits holds no memory for it
	err error   // of a write
}

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
		panic(fmt.Sprintf("the status %d can't be sent", status))
	case status < 200 && status != http.StatusSwitchingProtocols:
		w.appendStatus(status)
		w.appendFields(func(name string) bool { return name != "Content-Length" && name != "Transfer-Encoding" })
		*w.out = append(*w.out, "\r\n"...)
		w.send()
		return
	}
	w.status = status
	w.last = w.conn.server.draining.Load()
	if s := w.header["Content-Length"]; len(s) > 0 && s[0] != "" {
		if n, err := strconv.ParseInt(s[0], 10, 64); err == nil && n >= 0 {
			w.length = n
		} else {
			delete(w.header, "Content-Length")
		}
	}
	if s := w.header["Connection"]; len(s) > 0 && s[0] == "close" {
		w.last = true
	}
	_, w.typed = w.header["Content-Type"]
	if s := w.header["Content-Encoding"]; len(s) > 0 && s[0] != "" {
		w.typed = true // or at least not what its bytes look like
	}
	_, w.dated = w.header["Date"]
	w.announceTrailers()
	w.appendStatus(status)
	w.appendFields(w.isSent)
}

// isSent reports whether a field that the handler has set is sent with the status as it is.
func (w *response) isSent(name string) bool {
	switch name {
	case "Transfer-Encoding": // is decided here
		return false
	case "Connection":
		return !w.last
	case "Content-Length":
		return bodyAllowed(w.status)
	case "Content-Type":
		return w.status != http.StatusNotModified
	}
	return !strings.HasPrefix(name, http.TrailerPrefix)
}

func (w *response) announceTrailers() {
	for _, list := range w.header["Trailer"] {
		for name := range strings.SplitSeq(list, ",") {
			name = http.CanonicalHeaderKey(textproto.TrimString(name))
			if name != "" && httpguts.ValidTrailerHeader(name) {
				w.trailers = append(w.trailers, name)
			}
		}
	}
}

// bodyAllowed is as RFC 9110, section 6.4.1, has it.
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// begin ends the header section. What is held is followed by next, and is the whole body if the handler is done.
func (w *response) begin(next []byte, done bool) {
	w.begun = true
	allowed := bodyAllowed(w.status)
	if done && allowed && w.length < 0 && !w.hasTrailers() && (!w.head || len(w.held) > 0) {
		w.length = int64(len(w.held))
		w.appendField("Content-Length", strconv.Itoa(len(w.held)))
	}
	if allowed && !w.typed && len(w.held)+len(next) > 0 {
		w.appendField("Content-Type", http.DetectContentType(append(w.held, next[:min(len(next), sniffed)]...)))
	}
	if !w.dated {
		w.appendField("Date", date())
	}
	if w.last {
		w.appendField("Connection", "close")
	}
	if allowed && !w.head && w.length < 0 {
		w.chunked = true
		w.appendField("Transfer-Encoding", "chunked")
	}
	*w.out = append(*w.out, "\r\n"...)
	if len(w.held) > 0 {
		w.appendBody(w.held)
		w.held = nil
	}
}

func (w *response) hasTrailers() bool {
	if len(w.header["Trailer"]) > 0 {
		return true
	}
	for name := range w.header {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			return true
		}
	}
	return false
}

// Write implements http.ResponseWriter. What is short is sent later.
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
	if !w.begun {
		if w.length < 0 && len(w.held)+len(p) <= holdUpTo {
			w.held = append(w.held, p...)
			return len(p), w.err
		}
		w.begin(p, false)
	}
	w.appendBody(p)
	return len(p), w.err
}

// appendBody sends p, or keeps it until there is more to be sent, or nothing more to come.
func (w *response) appendBody(p []byte) {
	if w.head || w.err != nil {
		return
	}
	if w.chunked {
		*w.out = append(strconv.AppendInt(*w.out, int64(len(p)), 16), "\r\n"...)
	}
	if len(*w.out)+len(p) > sendTogether {
		w.send()
		w.sendAsIs(p)
	} else {
		*w.out = append(*w.out, p...)
	}
	if w.chunked {
		*w.out = append(*w.out, "\r\n"...)
	}
	if len(*w.out) >= sendFrom && w.written != w.length {
		w.send()
	}
}

// send sends what is kept.
func (w *response) send() {
	w.sendAsIs(*w.out)
	*w.out = (*w.out)[:0]
}

func (w *response) sendAsIs(p []byte) {
	if w.err != nil || len(p) == 0 {
		return
	}
	if _, w.err = w.conn.Write(p); w.err != nil {
		w.context.cancel() // the client is gone
	}
}

// Flush implements http.Flusher.
func (w *response) Flush() { _ = w.FlushError() }

// FlushError is for http.ResponseController.
func (w *response) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !w.begun {
		w.begin(nil, false)
	}
	w.send()
	return w.err
}

// EnableFullDuplex is for http.ResponseController: the request has come whole.
func (w *response) EnableFullDuplex() error { return nil }

// SetReadDeadline is for http.ResponseController: nothing of the request is left to be read.
func (w *response) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline is for http.ResponseController. Safe for concurrent use.
func (w *response) SetWriteDeadline(t time.Time) error { return w.conn.SetWriteDeadline(t) }

// finish ends the response and reports whether its connection can carry another one. Then what is to be sent of it is left
// in out.
func (w *response) finish() bool {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !w.begun {
		w.begin(nil, true)
	}
	if w.chunked {
		*w.out = append(*w.out, "0\r\n"...)
		w.appendTrailers()
		*w.out = append(*w.out, "\r\n"...)
	}
	cut := w.length >= 0 && w.written != w.length && !w.head && bodyAllowed(w.status)
	if w.last || cut || w.err != nil {
		w.abandon()
		return false
	}
	_ = w.conn.SetWriteDeadline(time.Time{}) // the handler's is over
	return true
}

// abandon sends what stands in the buffer, behind which the connection ends.
func (w *response) abandon() {
	if w.out == nil {
		return
	}
	if w.begun {
		w.send()
	}
	release(w.out)
}

func (w *response) appendTrailers() {
	for name, values := range w.header {
		if name, is := strings.CutPrefix(name, http.TrailerPrefix); is {
			w.appendValues(name, values)
		}
	}
	for _, name := range w.trailers {
		w.appendValues(name, w.header[name])
	}
}

const statusOK = "HTTP/1.1 200 OK\r\n"

// appendStatus takes what the response is put together in, as nothing is put there before a status line.
func (w *response) appendStatus(status int) {
	if w.out == nil {
		w.out = responses.Get().(*[]byte)
		*w.out = (*w.out)[:0]
	}
	if status == http.StatusOK {
		*w.out = append(*w.out, statusOK...)
		return
	}
	text := http.StatusText(status)
	if text == "" {
		text = "status code " + strconv.Itoa(status)
	}
	*w.out = fmt.Appendf(*w.out, "HTTP/1.1 %03d %s\r\n", status, text)
}

// appendFields appends the fields that are to be sent, by name, so that people find them.
func (w *response) appendFields(sent func(name string) bool) {
	var some [24]string // on the stack
	names := some[:0]
	for name := range w.header {
		if sent(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		w.appendValues(name, w.header[name])
	}
}

// appendValues appends the field lines of name, as far as they can be sent.
func (w *response) appendValues(name string, values []string) {
	if !httpguts.ValidHeaderFieldName(name) {
		return
	}
	for _, v := range values {
		if strings.ContainsAny(v, "\r\n") {
			v = lineEnds.Replace(v)
		}
		w.appendField(name, textproto.TrimString(v))
	}
}

var lineEnds = strings.NewReplacer("\n", " ", "\r", " ")

func (w *response) appendField(name, value string) {
	b := append(*w.out, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	*w.out = append(b, "\r\n"...)
}

// stamp is a second's Date.
type stamp struct {
	second int64
	text   string
}

var today atomic.Pointer[stamp]

func date() string {
	now := time.Now()
	if d := today.Load(); d != nil && d.second == now.Unix() {
		return d.text
	}
	d := &stamp{now.Unix(), now.UTC().Format(http.TimeFormat)}
	today.Store(d)
	return d.text
}

var (
	_ http.ResponseWriter = (*response)(nil)
	_ http.Flusher        = (*response)(nil)
)
