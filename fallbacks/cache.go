package fallbacks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"cbproxy/routes"
)

// CacheOptions configures the cache strategy, which answers with the last good response to the
// same question: the same method, Host, path, query and body, and the same values of the fields
// in vary, of Cookie and Proxy-Authorization, and of the fields that the response's Vary names.
type CacheOptions struct {
	// How long after the upstream gave it a response may be used.
	TTL time.Duration `yaml:"ttl" valid:"positive"`
	// Responses kept; the least recently used go first.
	MaxEntries int `yaml:"max_entries" valid:"1..10000000"`
	// Bytes of the longest response body that is kept. As much may be held for each response under way.
	MaxEntryBytes routes.Size `yaml:"max_entry_bytes" valid:"positive"`
	// Bytes of all the responses kept, with their headers and what it takes to find them; the least recently used go first. At least max_entry_bytes.
	MaxBytes routes.Size `yaml:"max_bytes" valid:"positive"`
	// Bytes of the longest request body that is part of a question; a request with a longer one is not answered. As much may be held for each request under way.
	MaxRequestBytes routes.Size `yaml:"max_request_bytes" valid:"0..64MiB"`
	// Methods whose responses are kept, in upper case. List POST only where it asks and changes nothing. GET includes HEAD, which is answered from the response to GET, without its body.
	Methods []string `yaml:"methods" valid:"method" most:"32"`
	// Request fields that are part of the question beside Cookie and Proxy-Authorization. List every field by which the upstream tells callers apart, or one is given another's response.
	Vary []string `yaml:"vary" most:"32"`
}

func defaultCacheOptions() *CacheOptions {
	return &CacheOptions{
		TTL: 10 * time.Minute, MaxEntries: 1000, MaxEntryBytes: 256 << 10, MaxBytes: 64 << 20, MaxRequestBytes: 1 << 20,
		Methods: []string{http.MethodGet, http.MethodPost}, Vary: []string{"Authorization"},
	}
}

// Validate reports what the types can't say, by path below the options.
func (o *CacheOptions) Validate(report func(path, message string)) {
	checkFieldNames("vary", o.Vary, report)
	if i := slices.Index(o.Vary, "*"); i >= 0 {
		report(fmt.Sprintf("vary[%d]", i), "must be the name of a header field, got \"*\"")
	}
	if slices.Contains(o.Methods, http.MethodHead) && !slices.Contains(o.Methods, http.MethodGet) {
		report("methods", "must have GET if it has HEAD, which is answered from the response to GET")
	}
	if o.MaxBytes < o.MaxEntryBytes {
		report("max_bytes", "must be at least max_entry_bytes, "+o.MaxEntryBytes.String())
	}
}

// cache learns the upstream's good responses and answers with them. It shares its store with
// the cache of the configuration before, so that what was learnt survives a reload. A request
// that changes something takes nothing away (as RFC 9111, section 4.4 would have it): an answer
// may be as old as ttl, whatever has happened since.
type cache struct {
	options *CacheOptions
	fields  []string // of a request that are part of its question
	store   *cacheStore
}

func newCache(o *CacheOptions, site Site) (Strategy, error) {
	c := &cache{options: o, fields: questionFields(o.Vary)}
	if before, ok := site.Previous.(*cache); ok {
		c.store = before.store
		return c, nil
	}
	var err error
	c.store, err = newCacheStore(c.bounds())
	return c, err
}

func (c *cache) bounds() cacheBounds {
	return cacheBounds{c.options.TTL, c.options.MaxEntries, int64(c.options.MaxBytes)}
}

// BodyLimit returns the length of the longest body that is part of a question.
func (c *cache) BodyLimit() int64 { return int64(c.options.MaxRequestBytes) }

// Start puts the options' bounds into force for what the configuration before has learnt, too.
func (c *cache) Start() { c.store.bound(c.bounds()) }

// instant: an answer is a look into memory.
func (c *cache) instant() {}

// CacheStats returns the cache's numbers, which survive a reload.
func (c *cache) CacheStats() CacheStats { return c.store.stats() }

// Learn takes a response in if it is a good one and may be kept.
func (c *cache) Learn(r *Request, status int, h http.Header) Lesson {
	if r.BodyError != nil || r.Method == http.MethodHead || !slices.Contains(c.options.Methods, r.Method) || !mayAsk(r.Header) {
		return nil
	}
	l := cacheLessons.Get().(*cacheLesson)
	if !l.begin(c, r, status, h) {
		cacheLessons.Put(l)
		return nil
	}
	return l
}

// cacheLessons are lessons that are over.
var cacheLessons = sync.Pool{New: func() any { return new(cacheLesson) }}

// cacheLesson copies a body as it passes.
type cacheLesson struct {
	cache   *cache
	entry   cacheEntry
	names   []string // of the fields in the response's Vary
	length  int64    // what Content-Length says, -1 if nothing
	most    int64    // of the body that is worth copying
	tooLong bool
	spare   []byte // of use for the entry's data
}

// begin is false if the response is of no use.
func (l *cacheLesson) begin(c *cache, r *Request, status int, h http.Header) (ok bool) {
	if !l.entry.judge(status, h, time.Now()) {
		return false
	}
	if l.names, ok = varyNames(h); !ok {
		return false
	}
	l.cache, l.length, l.most, l.tooLong = c, -1, int64(c.options.MaxEntryBytes), false
	if length, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64); err == nil && length >= 0 {
		if length > l.most {
			return false
		}
		l.length, l.most = length, length
	}
	l.entry.begin(r, c.fields, l.names, h, l.length, l.spare)
	l.spare = nil
	return true
}

// Write takes the next part of the body.
func (l *cacheLesson) Write(part []byte) {
	e := &l.entry
	switch {
	case l.tooLong:
	case int64(len(e.body())+len(part)) > l.most:
		l.tooLong = true
	default:
		e.data = append(e.data, part...)
	}
}

// Done keeps the response, unless its body is not as long as its length says.
func (l *cacheLesson) Done() {
	e := &l.entry
	switch data := e.data; {
	case l.tooLong || l.length >= 0 && int64(len(e.body())) != l.length:
		l.spare = data
	case cap(data)-len(data) > len(data)/4: // slack that it would hold for long
		e.data = slices.Clone(data)
		l.cache.store.put(e, l.names)
		l.spare = data
	default:
		l.spare = l.cache.store.put(e, l.names)
	}
	l.cache, l.entry = nil, cacheEntry{}
	cacheLessons.Put(l)
}

var (
	errNotCached = errors.New("the method is not in methods")
	errNotLearnt = errors.New("no good response to the same question is known")
	errTooOld    = errors.New("the last good response to the same question is too old")
)

// Answer returns the last good response to the same question. no-cache and no-store in the
// request don't keep it from doing so: what the client wants instead can't be had, and Age
// tells it what it gets.
func (c *cache) Answer(_ context.Context, r *Request) (*Answer, error) {
	method := r.Method
	if method == http.MethodHead { // a response to GET answers HEAD (RFC 9111, section 4; RFC 9110, section 9.3.2)
		method = http.MethodGet
	}
	if !slices.Contains(c.options.Methods, method) {
		return nil, errNotCached
	}
	if r.BodyError != nil {
		return nil, fmt.Errorf("tell the question without the request's body: %w", r.BodyError)
	}
	var space [2 << 10]byte
	question := appendQuestion(space[:0], r, c.fields)
	now := time.Now()
	e, err := c.store.get(appendVariant(question, c.store.names(question), r.Header), now)
	if err != nil {
		return nil, err
	}
	age := e.ageAt(now)
	h := e.header()
	h["Age"] = []string{strconv.FormatInt(int64(age/time.Second), 10)}
	status := "cbproxy; hit"
	if e.hasLifetime {
		status += "; ttl=" + strconv.FormatInt(int64((e.lifetime-age)/time.Second), 10)
	}
	// Caches nearer to the origin come first (RFC 9211, section 2).
	h["Cache-Status"] = append(slices.Clip(h["Cache-Status"]), status)
	return &Answer{Status: e.status, Header: h, Body: e.body()}, nil
}
