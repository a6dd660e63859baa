// Package queue implements the fallback strategy queue, which stores requests in the service's
// queue (internal/queue) for later delivery.
package queue

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"cbproxy/fallbacks"
	"cbproxy/internal/events"
	internalqueue "cbproxy/internal/queue"
)

// Provider gives the strategy access to the queues. If fallbacks.Env.Provider does not implement it, the strategy answers no request.
type Provider interface {
	// Queues returns the queues of all services, nil if the process has none.
	Queues() *internalqueue.Queues
}

// Strategy implements fallbacks.Strategy, fallbacks.Tester, fallbacks.Storer and fallbacks.Interceptor.
type Strategy struct {
	options *Options
	service string
	queues  *internalqueue.Queues // nil if the process has none
	policy  internalqueue.Policy
	answer  fallbacks.Answer
}

// New returns a strategy for env. It fails if the key file can't be read.
func New(o *Options, env fallbacks.Env) (fallbacks.Strategy, error) {
	s := &Strategy{options: o, service: env.Service, policy: internalqueue.Policy{
		Capacity: o.Capacity, MaxAge: o.MaxAge, MaxAttempts: o.MaxAttempts, Backoff: o.Backoff, MaxBackoff: o.MaxBackoff, Ordered: o.Ordered,
	}}
	if p, ok := env.Provider.(Provider); ok {
		s.queues = p.Queues()
	}
	if o.Encryption.KeyFile != "" {
		keys, err := internalqueue.ReadKeyring(o.Encryption.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("load encryption.key_file: %w", err)
		}
		s.policy.Keys = keys
	}
	s.answer = fallbacks.ConfiguredAnswer(o.Status, nil)
	s.answer.Body = o.Body
	return s, nil
}

// Start puts the strategy's policy into effect for the service's queue.
func (s *Strategy) Start() {
	if s.queues != nil {
		s.queues.Configure(s.service, s.policy)
	}
}

// BodyLimit returns max_body.
func (s *Strategy) BodyLimit() int64 { return int64(s.options.MaxBody) }

// StoresRequests implements fallbacks.Storer.
func (s *Strategy) StoresRequests() {}

// Intercept implements fallbacks.Interceptor. It reports true while requests are waiting in an
// ordered queue, so that later requests do not overtake them.
func (s *Strategy) Intercept(method string) (reason string, ok bool) {
	if s.queues == nil || !s.options.Ordered || !slices.Contains(s.options.Methods, method) {
		return "", false
	}
	r, waiting := s.queues.Waiting(s.service)
	return string(r), waiting
}

var (
	errNoQueue = errors.New("the process has no queue")
	errUpgrade = errors.New("a request for an upgrade can't be delivered later")
)

// Answer stores r in the queue and returns the configured answer once it is stored.
func (s *Strategy) Answer(ctx context.Context, r *fallbacks.Request) (*fallbacks.Answer, error) {
	if err := s.check(r); err != nil {
		return nil, err
	}
	err := s.queues.Accept(ctx, s.service, &internalqueue.Message{
		Method: r.Method, Host: r.Host, Path: r.Path, Rest: r.Rest, Query: r.Query, EmptyQuery: r.EmptyQuery,
		Header: s.header(r.Header), Body: r.Body, Reason: events.Reason(r.Reason), Accepted: time.Now(),
	})
	if err != nil {
		return nil, err
	}
	return &s.answer, nil
}

// AnswerTest returns the configured answer if Answer would store r, as far as that is known without storing it.
func (s *Strategy) AnswerTest(_ context.Context, r *fallbacks.Request) (*fallbacks.Answer, error) {
	if err := s.check(r); err != nil {
		return nil, err
	}
	if err := s.queues.CheckRoom(s.service); err != nil {
		return nil, err
	}
	return &s.answer, nil
}

// check returns why r can't be queued, or nil.
func (s *Strategy) check(r *fallbacks.Request) error {
	switch {
	case s.queues == nil:
		return errNoQueue
	case !slices.Contains(s.options.Methods, r.Method):
		return fmt.Errorf("the method %s is not in methods", r.Method)
	case r.Upgrade != "":
		return errUpgrade
	}
	return r.BodyError
}

// header returns a copy of h without the fields in drop_headers, and with those in redact_headers
// redacted.
func (s *Strategy) header(h http.Header) http.Header {
	h = h.Clone()
	for _, name := range s.options.DropHeaders {
		h.Del(name)
	}
	for _, name := range s.options.RedactHeaders {
		if h.Values(name) != nil { // not Get: the first of several values may be empty
			h.Set(name, "redacted")
		}
	}
	return h
}
