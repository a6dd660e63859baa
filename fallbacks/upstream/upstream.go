// Package upstream implements the fallback strategy upstream, which sends the request to a second
// upstream with a circuit breaker of its own.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/fallbacks/internal/httpclient"
	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/grpc"
	internalupstream "cbproxy/internal/upstream"
)

// Strategy implements fallbacks.Strategy, fallbacks.Tester and fallbacks.BreakerReporter.
type Strategy struct {
	*internalupstream.Client
	options *Options
	breaker *sharedBreaker
}

// New returns a strategy for env. It shares the connections and the breaker of env.Previous where
// that sends requests to the same server.
func New(o *Options, env fallbacks.Env) (fallbacks.Strategy, error) {
	previous, _ := env.Previous.(*Strategy)
	var pool *internalupstream.SharedPool
	if previous != nil {
		pool = previous.Pool
	}
	c, err := httpclient.New(o.URL, o.TLS, o.Timeout, o.MaxResponse, env, pool)
	if err != nil {
		return nil, err
	}
	s := &Strategy{Client: c, options: o}
	if url := o.URL.String(); previous != nil && previous.breaker.url == url {
		s.breaker = previous.breaker
	} else {
		s.breaker = newSharedBreaker(url, s.policy(), env)
	}
	return s, nil
}

func (s *Strategy) policy() breaker.Policy {
	b := &s.options.Breaker
	return breaker.Policy{FailMax: b.FailMax, RecoveryTimeout: b.RecoveryTimeout, HalfOpenRequests: b.HalfOpenRequests}
}

// BodyLimit returns max_body.
func (s *Strategy) BodyLimit() int64 { return int64(s.options.MaxBody) }

// Start acquires the connections and the breaker, and sets the breaker's policy.
func (s *Strategy) Start() {
	s.Pool.Acquire()
	s.breaker.acquire()
	s.breaker.breaker.SetPolicy(s.policy())
}

// Close releases the connections and the breaker, which the next strategy may share.
func (s *Strategy) Close() error {
	s.breaker.release()
	s.Pool.Release()
	return nil
}

// Breaker returns the second upstream's breaker.
func (s *Strategy) Breaker() *breaker.Breaker { return s.breaker.breaker }

// BreakerState implements fallbacks.BreakerReporter.
func (s *Strategy) BreakerState() events.State { return s.breaker.breaker.State() }

// Answer returns the second upstream's response, unless its status counts as a failure.
func (s *Strategy) Answer(ctx context.Context, r *fallbacks.Request) (*fallbacks.Answer, error) {
	if err := checkRequest(ctx, r); err != nil {
		return nil, err
	}
	call, err := s.breaker.breaker.Allow()
	if err != nil {
		return nil, err
	}
	report, start := call.Cancel, time.Now() // a panic counts neither as success nor as failure
	defer func() { report() }()
	if call.State == events.HalfOpen {
		s.Pool.DiscardConnections() // old connections must not decide the recovery
	}
	a, fetchErr := s.fetch(ctx, r)
	switch {
	case fetchErr == nil:
		report = func() { call.Success(time.Since(start)) }
		return a, nil
	case fetchErr.Failure != "":
		report = func() {
			call.Failure(&events.Failure{Time: time.Now(), Type: fetchErr.Failure, Detail: fetchErr.Error()}, time.Since(start))
		}
	}
	return nil, fetchErr
}

// AnswerTest is Answer, except that the breaker of the second upstream is not told the result, and that a breaker which is half-open
// rejects r: its permits are for probes.
func (s *Strategy) AnswerTest(ctx context.Context, r *fallbacks.Request) (*fallbacks.Answer, error) {
	if err := checkRequest(ctx, r); err != nil {
		return nil, err
	}
	switch s.breaker.breaker.State() {
	case events.Open:
		return nil, breaker.ErrOpen
	case events.HalfOpen:
		return nil, breaker.ErrHalfOpenLimit
	}
	a, err := s.fetch(ctx, r)
	if err != nil {
		return nil, err
	}
	return a, nil
}

// fetch sends r to the second upstream and returns its response as an answer.
func (s *Strategy) fetch(ctx context.Context, r *fallbacks.Request) (*fallbacks.Answer, *internalupstream.Error) {
	res, err := s.Fetch(ctx, s.newRequest(r), s.checkStatus)
	if err != nil {
		return nil, err
	}
	s.rewriteLocation(res.Header, r)
	return &fallbacks.Answer{Status: res.Status, Header: res.Header, Body: res.Body}, nil
}

// checkRequest returns why r can't be sent to a second upstream, or nil.
func checkRequest(ctx context.Context, r *fallbacks.Request) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case r.Upgrade != "":
		return errors.New("the response to an upgrade can't be buffered")
	case grpc.IsVariant(r.Header.Get("Content-Type")):
		return errors.New("the response to a gRPC call can't be buffered")
	case r.BodyError != nil:
		return fmt.Errorf("the request's body is not available: %w", r.BodyError)
	}
	return nil
}

// newRequest returns the request to the second upstream. It shares no memory with r, because
// http.Transport may still read it after it has returned a response.
func (s *Strategy) newRequest(r *fallbacks.Request) *http.Request {
	h := r.Header.Clone()
	if h == nil {
		h = http.Header{}
	}
	for _, name := range []string{"Expect", "Te", "Trailer"} { // the body is complete, and trailers are not buffered
		delete(h, name)
	}
	if h["User-Agent"] == nil {
		h["User-Agent"] = []string{""} // keeps net/http from adding its own
	}
	out := s.NewRequest(r.Method, r.Rest, r.Query, h, slices.Clone(r.Body))
	out.URL.ForceQuery = r.EmptyQuery
	if s.options.PreserveHost {
		out.Host = r.Host
	}
	return out
}

// rewriteLocation makes addresses of the second upstream's own origin lead through the proxy, where the first upstream answers again
// when it can.
func (s *Strategy) rewriteLocation(h http.Header, r *fallbacks.Request) {
	m := internalupstream.Mount{Prefix: strings.TrimSuffix(r.Path, r.Rest), Path: r.Rest}
	if s.options.PreserveHost {
		m.Host = r.Host
	}
	s.RewriteLocation(h, m)
}

func (s *Strategy) checkStatus(status int) error {
	if s.options.Breaker.FailureStatuses.Has(status) {
		return fmt.Errorf("status %d", status)
	}
	return nil
}
