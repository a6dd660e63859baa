package fallbacks

import (
	"context"
	"errors"
	"fmt"

	"cbproxy/internal/events"
)

// Client gives a chain access to a client's request. Its methods are called on the goroutine that
// calls the chain, and only if a strategy needs their result.
type Client interface {
	// Method returns the request's method, and Accept the values of its Accept field.
	Method() string
	Accept() []string
	// Request returns the request without its body. It is called at most once.
	Request() *Request
	// Body returns the whole body. It fails if the body is longer than limit bytes or not
	// available as a whole.
	Body(limit int64) ([]byte, error)
}

// Answer returns the answer of the first strategy that has one, and the name of the strategy. If no
// strategy has an answer, the error joins the errors of all. A strategy that panics or exceeds its time limit has no
// answer. ctx ends with the client; a Storer is called without its cancellation.
func (c *Chain) Answer(ctx context.Context, client Client, reason events.Reason) (a *Answer, strategy string, err error) {
	return c.answer(ctx, client, reason, func(*step) bool { return true })
}

// Store is Answer for a client that has left: it tries only the strategies that are Storers. If there
// are none, it returns neither an answer nor an error.
func (c *Chain) Store(ctx context.Context, client Client, reason events.Reason) (a *Answer, strategy string, err error) {
	return c.answer(ctx, client, reason, func(s *step) bool { return s.stores })
}

// answer tries the strategies that are selected.
func (c *Chain) answer(ctx context.Context, client Client, reason events.Reason, selected func(*step) bool) (*Answer, string, error) {
	var r *Request
	var failures []error
	for i := range c.steps {
		s := &c.steps[i]
		if !selected(s) {
			continue
		}
		if s.selective != nil {
			err := errPanicked
			s.recoverPanic("select", c.logger, func() { err = s.selective.Select(client.Method(), client.Accept()) })
			if err != nil {
				failures = append(failures, fmt.Errorf("%s: %w", s.name, err))
				continue
			}
		}
		if s.constant != nil {
			return s.constant, s.name, nil
		}
		if r == nil {
			r = client.Request()
			r.Reason = string(reason)
		}
		r.Body, r.BodyError = nil, nil
		if s.readsBody {
			r.Body, r.BodyError = client.Body(s.bodyLimit)
		}
		a, err := s.answer(ctx, r)
		if err == nil {
			return a, s.name, nil
		}
		failures = append(failures, fmt.Errorf("%s: %w", s.name, err))
	}
	return nil, "", errors.Join(failures...)
}

var errPanicked = errors.New("it panicked")

var errTimeLimit = errors.New("no answer within its time limit")

// answer calls the strategy within its time limit and sanitizes its answer.
func (s *step) answer(ctx context.Context, r *Request) (a *Answer, err error) {
	if s.stores {
		ctx = context.WithoutCancel(ctx)
	}
	if !s.nonBlocking {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.timeLimit, errTimeLimit)
		defer cancel()
	}
	strategy := s.strategyFor(r)
	if s.isolation != nil {
		a, err = s.isolation.answer(ctx, strategy, r)
	} else {
		a, err = callAnswer(ctx, strategy, r)
	}
	if err != nil {
		return nil, err
	}
	return sanitizeAnswer(a, r.Method)
}
