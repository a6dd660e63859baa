package fallbacks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
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
	// Methods whose responses are kept, in upper case. List POST only where it asks and changes nothing. HEAD is answered from what GET was.
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
		report("methods", "must have GET if it has HEAD, which is answered from what GET was")
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
	e, ok := newCacheEntry(status, h, time.Now())
	if !ok {
		return nil
	}
	names, ok := varyNames(h)
	if !ok {
		return nil
	}
	l := &cacheLesson{cache: c, entry: e, length: -1, most: int64(c.options.MaxEntryBytes)}
	if length, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64); err == nil && length >= 0 {
		if length > l.most {
			return nil
		}
		l.length, l.most = length, length
	}
	e.fields = keptFields(h)
	l.question = questionOf(r, c.fields)
	l.names, l.key = names, l.question.with(names, r.Header)
	return l
}

// cacheLesson copies a body as it passes.
type cacheLesson struct {
	cache    *cache
	entry    *cacheEntry
	question cacheKey
	names    []string // of the fields in the response's Vary
	key      cacheKey
	length   int64 // what Content-Length says, -1 if nothing
	most     int64 // of the body that is worth copying
	tooLong  bool
}

// Write takes the next part of the body.
func (l *cacheLesson) Write(part []byte) {
	e := l.entry
	switch {
	case l.tooLong:
		return
	case int64(len(e.body)+len(part)) > l.most:
		l.tooLong, e.body = true, nil
		return
	case e.body == nil && l.length > 0: // not before there is something to hold
		e.body = make([]byte, 0, l.length)
	}
	e.body = append(e.body, part...)
}

// Done keeps the response, unless its body is not as long as its length says.
func (l *cacheLesson) Done() {
	e := l.entry
	if l.tooLong || l.length >= 0 && int64(len(e.body)) != l.length {
		return
	}
	if cap(e.body)-len(e.body) > len(e.body)/4 { // slack that it would hold for long
		e.body = slices.Clone(e.body)
	}
	l.cache.store.put(l.question, l.names, l.key, e)
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
	if !slices.Contains(c.options.Methods, r.Method) {
		return nil, errNotCached
	}
	if r.BodyError != nil {
		return nil, fmt.Errorf("tell the question without the request's body: %w", r.BodyError)
	}
	question := questionOf(r, c.fields)
	key := question.with(c.store.names(question), r.Header)
	now := time.Now()
	e, err := c.store.get(key, now)
	if err != nil {
		return nil, err
	}
	age := e.ageAt(now)
	h := make(http.Header, len(e.fields)+2)
	for _, f := range e.fields {
		h[f.name] = f.values
	}
	h["Age"] = []string{strconv.FormatInt(int64(age/time.Second), 10)}
	status := "cbproxy; hit"
	if e.hasLifetime {
		status += "; ttl=" + strconv.FormatInt(int64((e.lifetime-age)/time.Second), 10)
	}
	// Caches nearer to the origin come first (RFC 9211, section 2).
	h["Cache-Status"] = append(slices.Clip(h["Cache-Status"]), status)
	return &Answer{Status: e.status, Header: h, Body: e.body}, nil
}
