package fallbacks

import (
	"cbproxy/internal/upstream"
	"encoding/binary"
	"net/http"
	"slices"
	"time"
)

// cacheEntry is one response. It has all its texts in one piece of bytes: there may be very many
// entries, and the garbage collector finds nothing to follow in those.
type cacheEntry struct {
	status int
	data   []byte // the key, the kept fields, the body; not modified once it is in the store
	// Where in data the question ends, without what the response's Vary adds; the key; the fields.
	questionEnd, keyEnd, head int
	fields                    int
	lines                     int // of all fields
	// received is when the response came, and age how old it was by then.
	received time.Time
	age      time.Duration
	// lifetime is for how long the response said that it is fresh, if it said so.
	lifetime    time.Duration
	hasLifetime bool
	mustBeFresh bool

	// The rest is the store's.
	lent     bool           // somebody has got data to read
	question *cacheQuestion // nil if the response has no Vary
	size     int64
}

// begin takes in the key and what is kept of the header, and makes room for a body of the given
// length, -1 if that is not known: in spare, if that is large enough and not known to be much too
// large.
func (e *cacheEntry) begin(r *Request, fields, names []string, h http.Header, length int64, spare []byte) {
	var space [2 << 10]byte // on the stack, and enough for most
	b := appendQuestion(space[:0], r, fields)
	e.questionEnd = len(b)
	b = appendVariant(b, names, r.Header)
	e.keyEnd = len(b)
	b = e.appendKept(b, h)
	e.head = len(b)
	size := int64(len(b)) + max(0, length)
	if slack := int64(cap(spare)) - size; slack < 0 || length >= 0 && slack > size/4 {
		spare = make([]byte, 0, size)
	}
	e.data = append(spare[:0], b...)
}

// appendKept appends the fields that may be given to others, later, and counts them.
func (e *cacheEntry) appendKept(b []byte, h http.Header) []byte {
	hops := upstream.ConnectionOptions(h) // what the response itself says is for the connection alone
	for name, values := range h {
		if !reserved(name) && !isPersonal(name) && !slices.Contains(hops, name) {
			b = appendField(b, name, values)
			e.fields++
			e.lines += len(values)
		}
	}
	return b
}

func (e *cacheEntry) key() []byte { return e.data[:e.keyEnd] }

// body returns what has come of the body so far.
func (e *cacheEntry) body() []byte { return e.data[e.head:len(e.data):len(e.data)] }

// header returns the kept fields. The caller may modify it, and append to its values.
func (e *cacheEntry) header() http.Header {
	data := e.data[e.keyEnd:e.head]
	r := fieldReader{data: data, text: string(data)}
	h, all := make(http.Header, e.fields+2), make([]string, 0, e.lines)
	for range e.fields {
		name, first := r.part(), len(all)
		for range r.number() {
			all = append(all, r.part())
		}
		h[name] = all[first:len(all):len(all)]
	}
	return h
}

// fieldReader reads what appendField wrote. Its texts share one string.
type fieldReader struct {
	data []byte // what has not been read
	text string // all of it
}

func (r *fieldReader) number() int {
	n, size := binary.Uvarint(r.data)
	r.data = r.data[size:]
	return int(n)
}

func (r *fieldReader) part() string {
	n := r.number()
	start := len(r.text) - len(r.data)
	r.data = r.data[n:]
	return r.text[start : start+n]
}

// ageAt is how long before now the response was made.
func (e *cacheEntry) ageAt(now time.Time) time.Duration {
	return e.age + max(0, now.Sub(e.received))
}

// usableAt reports whether the response itself allows its use.
func (e *cacheEntry) usableAt(now time.Time) bool {
	return !e.mustBeFresh || e.ageAt(now) < e.lifetime
}

// What an entry takes in memory beside its data, about: itself and its place in the store; what
// its question takes if the response has a Vary; a name in that.
const (
	entryOverhead    = 272
	questionOverhead = 112
	nameOverhead     = 16
)

// measure returns the size in memory of an entry whose Vary has the given names.
func (e *cacheEntry) measure(names []string) int64 {
	n := entryOverhead + cap(e.data)
	if len(names) > 0 {
		n += questionOverhead
	}
	for _, name := range names {
		n += nameOverhead + len(name)
	}
	return int64(n)
}
