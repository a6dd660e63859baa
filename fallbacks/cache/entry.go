package cache

import (
	"encoding/binary"
	"net/http"
	"slices"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/internal/upstream"
)

// entry is one response. Its key, header fields and body are in one byte slice, so that the garbage collector does not
// have to scan them: there may be very many entries.
type entry struct {
	status int
	// data is not modified once the entry is in the store. It holds:
	//
	//	| primary key | vary key | header fields | body |
	//	0        primaryEnd   keyEnd         headerEnd  len(data)
	data                          []byte
	primaryEnd, keyEnd, headerEnd int
	fields, values                int // how many header fields there are, and values of all fields
	received                      time.Time
	ageReceived                   time.Duration // the response's age when it was received
	// lifetime is the freshness lifetime that the response states, if hasLifetime.
	lifetime       time.Duration
	hasLifetime    bool
	hasDate        bool // the response has a valid Date
	mustRevalidate bool // the response must not be used once it is stale

	// Used by the store, guarded by its mu.
	shared  bool     // data is referenced by an answer
	variant *variant // nil if the response has no Vary
	size    int64    // in memory
}

// initData sets the key and the stored fields, with capacity for a body of the given length, -1 if
// that is unknown. It reuses buffer if its capacity suffices and, for a known length, exceeds the need
// by at most a quarter.
func (e *entry) initData(r *fallbacks.Request, keyFields, varyNames []string, h http.Header, length int64, buffer []byte) {
	var space [2 << 10]byte // avoids an allocation for most keys
	b := appendPrimaryKey(space[:0], r, keyFields)
	e.primaryEnd = len(b)
	b = appendVaryKey(b, varyNames, r.Header)
	e.keyEnd = len(b)
	b = e.appendHeader(b, h)
	e.headerEnd = len(b)
	e.data = append(dataBuffer(int64(len(b)), length, buffer), b...)
}

// dataBuffer returns an empty buffer for prefix bytes and a body of the given length, -1 if that is
// unknown: the given one or a new one.
func dataBuffer(prefix, length int64, buffer []byte) []byte {
	size := prefix + max(0, length)
	if unused := int64(cap(buffer)) - size; unused < 0 || length >= 0 && unused > size/4 {
		return make([]byte, 0, size)
	}
	return buffer[:0]
}

// appendHeader appends the fields that may be stored and counts them. A response without a valid Date
// gets the time at which it was received (RFC 9110, section 6.6.1).
func (e *entry) appendHeader(b []byte, h http.Header) []byte {
	connection := upstream.ConnectionOptions(h)
	for name, values := range h {
		if !fallbacks.IsReservedField(name) && !isUnstorable(name) && !slices.Contains(connection, name) && (e.hasDate || name != "Date") {
			b = appendField(b, name, values)
			e.fields++
			e.values += len(values)
		}
	}
	if !e.hasDate {
		b = appendField(b, "Date", []string{e.received.UTC().Format(http.TimeFormat)})
		e.fields++
		e.values++
	}
	return b
}

func (e *entry) key() []byte { return e.data[:e.keyEnd] }

// body returns the body as far as it was received.
func (e *entry) body() []byte { return e.data[e.headerEnd:len(e.data):len(e.data)] }

// header returns a new header with the stored fields.
func (e *entry) header() http.Header {
	data := e.data[e.keyEnd:e.headerEnd]
	r := fieldReader{data: data, text: string(data)}
	h, all := make(http.Header, e.fields+2), make([]string, 0, e.values)
	for range e.fields {
		name, first := r.string(), len(all)
		for range r.number() {
			all = append(all, r.string())
		}
		h[name] = all[first:len(all):len(all)]
	}
	return h
}

// fieldReader decodes what appendField has encoded. All strings it returns share one allocation.
type fieldReader struct {
	data []byte // not yet decoded
	text string // all of it
}

func (r *fieldReader) number() int {
	n, size := binary.Uvarint(r.data)
	r.data = r.data[size:]
	return int(n)
}

func (r *fieldReader) string() string {
	n := r.number()
	start := len(r.text) - len(r.data)
	r.data = r.data[n:]
	return r.text[start : start+n]
}

// ageAt returns the response's age (RFC 9111, section 4.2.3).
func (e *entry) ageAt(now time.Time) time.Duration {
	return e.ageReceived + max(0, now.Sub(e.received))
}

// usableAt reports whether the response itself allows its use.
func (e *entry) usableAt(now time.Time) bool {
	return !e.mustRevalidate || e.ageAt(now) < e.lifetime
}

// The approximate sizes in memory, in bytes, of an entry with its place in the store but without
// data, of a variant, and of a name in a variant.
const (
	entryOverhead   = 272
	variantOverhead = 112
	nameOverhead    = 16
)

// measure returns the approximate size in memory of an entry with the given names in Vary.
func (e *entry) measure(varyNames []string) int64 {
	n := entryOverhead + cap(e.data)
	if len(varyNames) > 0 {
		n += variantOverhead
	}
	for _, name := range varyNames {
		n += nameOverhead + len(name)
	}
	return int64(n)
}
