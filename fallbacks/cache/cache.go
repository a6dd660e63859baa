// Package cache implements the fallback strategy cache, which records successful responses of the
// upstream and serves them while the upstream is unavailable, by the rules of RFC 9111.
package cache

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"cbproxy/fallbacks"
)

// Strategy implements fallbacks.Strategy, fallbacks.Tester and fallbacks.Observer. It shares its store with the
// strategy of the previous configuration, so that reloads keep the cached responses. Unsafe requests
// do not invalidate responses (RFC 9111, section 4.4): while the upstream is unavailable, a response
// up to ttl old is better than none. docs/behaviour.md describes this for operators.
type Strategy struct {
	options *Options
	fields  []string // the request fields in primary keys
	store   *store
}

// New returns a strategy that continues to use the store of env.Previous, if that is a cache.
func New(o *Options, env fallbacks.Env) (fallbacks.Strategy, error) {
	s := &Strategy{options: o, fields: keyFields(o.Vary)}
	if previous, ok := env.Previous.(*Strategy); ok {
		s.store = previous.store
		return s, nil
	}
	var err error
	s.store, err = newStore(o.bounds())
	return s, err
}

// Start applies the options' bounds to the store.
func (s *Strategy) Start() { s.store.setBounds(s.options.bounds()) }

// BodyLimit returns max_request_bytes.
func (s *Strategy) BodyLimit() int64 { return int64(s.options.MaxRequestBytes) }

// NonBlocking implements fallbacks.NonBlocking: an answer is a lookup in memory.
func (s *Strategy) NonBlocking() {}

// CacheStats implements fallbacks.CacheReporter.
func (s *Strategy) CacheStats() fallbacks.CacheStats { return s.store.stats() }

// Record implements fallbacks.Observer.
func (s *Strategy) Record(r *fallbacks.Request, status int, h http.Header) fallbacks.Recorder {
	if r.BodyError != nil || r.Method == http.MethodHead || !slices.Contains(s.options.Methods, r.Method) || !requestAllowsStoring(r.Header) {
		return nil
	}
	if rec := newRecorder(s, r, status, h); rec != nil {
		return rec
	}
	return nil // a nil *recorder in the interface value would not compare equal to nil
}

var (
	errMethod   = errors.New("the method is not in methods")
	errNotFound = errors.New("no successful response to the same request is cached")
	errTooOld   = errors.New("the cached response to the same request is too old")
)

// Answer returns the cached response to the same request. It ignores no-cache and no-store in the
// request: the upstream is unavailable, and Age tells the client how old the response is.
func (s *Strategy) Answer(_ context.Context, r *fallbacks.Request) (*fallbacks.Answer, error) {
	return s.answer(r, s.store.get)
}

// AnswerTest returns the same response as Answer. It does not count the lookup, and the response does not stay in the cache for longer.
func (s *Strategy) AnswerTest(_ context.Context, r *fallbacks.Request) (*fallbacks.Answer, error) {
	return s.answer(r, s.store.peek)
}

// answer makes the answer from the entry that lookup returns.
func (s *Strategy) answer(r *fallbacks.Request, lookup func(key []byte, now time.Time) (entry, error)) (*fallbacks.Answer, error) {
	method := r.Method
	if method == http.MethodHead { // a response to GET answers HEAD (RFC 9111, section 4; RFC 9110, section 9.3.2)
		method = http.MethodGet
	}
	if !slices.Contains(s.options.Methods, method) {
		return nil, errMethod
	}
	if r.BodyError != nil {
		return nil, fmt.Errorf("make the cache key: %w", r.BodyError)
	}
	var space [2 << 10]byte
	primary := appendPrimaryKey(space[:0], r, s.fields)
	now := time.Now()
	e, err := lookup(appendVaryKey(primary, s.store.varyNames(primary), r.Header), now)
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
	// Caches closer to the origin come first (RFC 9211, section 2).
	h["Cache-Status"] = append(slices.Clip(h["Cache-Status"]), status)
	return &fallbacks.Answer{Status: e.status, Header: h, Body: e.body()}, nil
}
