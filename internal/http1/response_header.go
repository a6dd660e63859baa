package http1

import (
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

// bodyAllowed reports whether a response with the status can have a body (RFC 9110, section 6.4.1).
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// isSent reports whether WriteHeader sends a field that the handler has set.
func (w *response) isSent(name string) bool {
	switch name {
	case "Transfer-Encoding": // endHeader decides
		return false
	case "Connection":
		return !w.closeAfter
	case "Content-Length":
		return bodyAllowed(w.status)
	case "Content-Type":
		return w.status != http.StatusNotModified
	}
	return !strings.HasPrefix(name, http.TrailerPrefix)
}

func (w *response) parseTrailerNames() {
	for _, list := range w.header["Trailer"] {
		for name := range strings.SplitSeq(list, ",") {
			name = http.CanonicalHeaderKey(textproto.TrimString(name))
			if name != "" && httpguts.ValidTrailerHeader(name) {
				w.trailers = append(w.trailers, name)
			}
		}
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

// endHeader completes the header section and appends the held bytes. next is what the body continues with. done is true if the
// handler has returned, so that the held bytes are the whole body.
func (w *response) endHeader(next []byte, done bool) {
	w.headerDone = true
	allowed := bodyAllowed(w.status)
	if done && allowed && w.length < 0 && !w.hasTrailers() && (!w.isHead || len(w.held) > 0) {
		w.length = int64(len(w.held))
		w.appendField("Content-Length", strconv.Itoa(len(w.held)))
	}
	if allowed && !w.hasType && len(w.held)+len(next) > 0 {
		w.appendField("Content-Type", http.DetectContentType(append(w.held, next[:min(len(next), sniffSize)]...)))
	}
	if !w.hasDate {
		w.appendField("Date", date())
	}
	if w.closeAfter {
		w.appendField("Connection", "close")
	}
	if allowed && !w.isHead && w.length < 0 {
		w.chunked = true
		w.appendField("Transfer-Encoding", "chunked")
	}
	*w.out = append(*w.out, "\r\n"...)
	if len(w.held) > 0 {
		w.writeBody(w.held)
		w.held = nil
	}
}

const statusOK = "HTTP/1.1 200 OK\r\n"

// appendStatus appends a status line. It allocates the write buffer if there is none: a response begins with a status line.
func (w *response) appendStatus(status int) {
	if w.out == nil {
		w.out = writeBuffers.Get().(*[]byte)
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

// appendFields appends the fields for which isSent is true, sorted by name.
func (w *response) appendFields(isSent func(name string) bool) {
	var array [24]string // avoids an allocation
	names := array[:0]
	for name := range w.header {
		if isSent(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		w.appendValues(name, w.header[name])
	}
}

func (w *response) appendTrailers() {
	for name, values := range w.header {
		if name, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			w.appendValues(name, values)
		}
	}
	for _, name := range w.trailers {
		w.appendValues(name, w.header[name])
	}
}

// appendValues appends a field line for each value. It ignores an invalid name and replaces line ends in values by spaces.
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

// cachedDate is the Date value of one second.
type cachedDate struct {
	second int64
	text   string
}

var lastDate atomic.Pointer[cachedDate]

// date returns the current Date value.
func date() string {
	now := time.Now()
	if d := lastDate.Load(); d != nil && d.second == now.Unix() {
		return d.text
	}
	d := &cachedDate{now.Unix(), now.UTC().Format(http.TimeFormat)}
	lastDate.Store(d)
	return d.text
}
