package cache

import (
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"cbproxy/fallbacks"
)

// recorder implements fallbacks.Recorder. It copies one response into an entry.
type recorder struct {
	store     *store
	entry     entry
	varyNames []string // the fields in the response's Vary
	length    int64    // Content-Length, -1 if there is none
	maxBody   int64    // longest body that is worth copying
	tooLong   bool
	buffer    []byte // reusable for the data of an entry
}

// recorders holds recorders that are no longer in use.
var recorders = sync.Pool{New: func() any { return new(recorder) }}

// newRecorder returns nil if the response must not be stored.
func newRecorder(s *Strategy, r *fallbacks.Request, status int, h http.Header) *recorder {
	rec := recorders.Get().(*recorder)
	if !rec.init(s, r, status, h) {
		recorders.Put(rec)
		return nil
	}
	return rec
}

func (rec *recorder) init(s *Strategy, r *fallbacks.Request, status int, h http.Header) (ok bool) {
	if !rec.entry.initResponse(status, h, r.Sent, time.Now()) {
		return false
	}
	if rec.varyNames, ok = parseVary(h); !ok {
		return false
	}
	rec.store, rec.length, rec.maxBody, rec.tooLong = s.store, -1, int64(s.options.MaxEntryBytes), false
	if length, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64); err == nil && length >= 0 {
		if length > rec.maxBody {
			return false
		}
		rec.length, rec.maxBody = length, length
	}
	rec.entry.initData(r, s.fields, rec.varyNames, h, rec.length, rec.buffer)
	rec.buffer = nil
	return true
}

// Write appends the next part of the body.
func (rec *recorder) Write(part []byte) {
	e := &rec.entry
	switch {
	case rec.tooLong:
	case int64(len(e.body())+len(part)) > rec.maxBody:
		rec.tooLong = true
	default:
		e.data = append(e.data, part...)
	}
}

// Done stores the response, unless its body is too long or does not match Content-Length.
func (rec *recorder) Done() {
	e := &rec.entry
	switch data := e.data; {
	case rec.tooLong || rec.length >= 0 && int64(len(e.body())) != rec.length:
		rec.buffer = data
	case cap(data)-len(data) > len(data)/4: // do not keep so much unused capacity
		e.data = slices.Clone(data)
		rec.store.put(e, rec.varyNames)
		rec.buffer = data
	default:
		rec.buffer = rec.store.put(e, rec.varyNames)
	}
	rec.store, rec.entry = nil, entry{}
	recorders.Put(rec)
}
