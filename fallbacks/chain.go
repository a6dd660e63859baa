package fallbacks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
)

// Chain is one route's strategies in the order in which they are tried. Safe for concurrent
// use.
type Chain struct {
	steps     []step
	bodyLimit int64
	learner   learner // nil if no strategy is one
	holder    holder  // likewise
	logger    *slog.Logger
}

// step is one strategy of a chain.
type step struct {
	name     string
	strategy Strategy
	limit    time.Duration
	instant  bool   // it needs no limit
	guard    *guard // nil for the proxy's own strategies
}

// NewChain returns a chain of the strategies that try names, which are not started. options
// holds each one's, as Options made them. before is the chain that the service has until now,
// nil if there is none.
func NewChain(try []string, options map[string]any, site Site, before *Chain) (*Chain, error) {
	c := &Chain{logger: site.Logger}
	for _, name := range try {
		here := site
		if before != nil {
			here.Previous = before.Strategy(name)
		}
		s, err := newStep(name, options[name], here)
		if err != nil {
			return nil, err
		}
		c.steps = append(c.steps, s)
		if b, ok := s.strategy.(BodyReader); ok {
			c.bodyLimit = max(c.bodyLimit, b.BodyLimit())
		}
		if s.guard != nil {
			continue // what follows is on the way of requests that the upstream can answer
		}
		if l, ok := s.strategy.(learner); ok {
			c.learner = l
		}
		if h, ok := s.strategy.(holder); ok {
			c.holder = h
		}
	}
	return c, nil
}

// Strategy returns the strategy with the given name, nil if the chain has none.
func (c *Chain) Strategy(name string) Strategy {
	for i := range c.steps {
		if c.steps[i].name == name {
			return c.steps[i].strategy
		}
	}
	return nil
}

// CacheStats returns the numbers of the chain's cache, all zero if it has none. A nil chain has
// none.
func (c *Chain) CacheStats() (s CacheStats) {
	if c == nil {
		return s
	}
	if cached, ok := c.Strategy("cache").(*cache); ok {
		s = cached.CacheStats()
	}
	return s
}

// UpstreamBreaker returns the breaker of the chain's upstream, nil if it has none. A nil chain has
// none.
func (c *Chain) UpstreamBreaker() *breaker.Breaker {
	if c == nil {
		return nil
	}
	if second, ok := c.Strategy("upstream").(*secondUpstream); ok {
		return second.Breaker()
	}
	return nil
}

// BodyLimit returns the size in bytes of the longest request body that any of the strategies
// has a use for.
func (c *Chain) BodyLimit() int64 { return c.bodyLimit }

// Start starts the strategies. It is called once, when the chain comes into force.
func (c *Chain) Start() {
	for i := range c.steps {
		if s, ok := c.steps[i].strategy.(Starter); ok {
			c.steps[i].safely("start", c.logger, s.Start)
		}
	}
}

// Close closes the strategies. It is called once, when no request can come any more, and only
// for a chain that was started.
func (c *Chain) Close() {
	for i := range c.steps {
		if s, ok := c.steps[i].strategy.(io.Closer); ok {
			c.steps[i].safely("close", c.logger, func() {
				if err := s.Close(); err != nil {
					c.logger.Warn("close a fallback strategy", "strategy", c.steps[i].name, "error", err)
				}
			})
		}
	}
}

// Holds reports whether requests with the given method must go to the chain although their
// upstream could be asked, and why it can't take those before them, "" if it does take them.
func (c *Chain) Holds(method string) (reason events.Reason, holds bool) {
	if c.holder == nil {
		return "", false
	}
	return c.holder.Holds(method)
}

// Client is a client's request as a chain wants to know it. It is asked on the goroutine that
// calls the chain, and only for what the strategies need.
type Client interface {
	// Request returns the request without its body. It is called once at most.
	Request() *Request
	// Body returns the body, or why it is not known as a whole, or larger than limit bytes.
	Body(limit int64) ([]byte, error)
}

// Answer returns the answer of the first strategy that has one, and that strategy's name. The
// error joins why none has. A strategy that panics has none, nor has one that takes longer
// than it may.
func (c *Chain) Answer(ctx context.Context, client Client, reason events.Reason) (a *Answer, strategy string, err error) {
	var r *Request
	var declined []error
	for i := range c.steps {
		s := &c.steps[i]
		if c, ok := s.strategy.(constant); ok {
			return c.constant(), s.name, nil
		}
		if r == nil {
			r = client.Request()
			r.Reason = reason
		}
		r.Body, r.BodyError = nil, nil
		if b, ok := s.strategy.(BodyReader); ok {
			r.Body, r.BodyError = client.Body(b.BodyLimit())
		}
		a, err := s.answer(ctx, r)
		if err == nil {
			return a, s.name, nil
		}
		declined = append(declined, fmt.Errorf("%s: %w", s.name, err))
	}
	return nil, "", errors.Join(declined...)
}

// Constant returns the name of the first strategy that has the same answer for every request.
func (c *Chain) Constant() (strategy string, ok bool) {
	for i := range c.steps {
		if _, ok := c.steps[i].strategy.(constant); ok {
			return c.steps[i].name, true
		}
	}
	return "", false
}

// answer asks the strategy, within its time, and tidies up what it says.
func (s *step) answer(ctx context.Context, r *Request) (a *Answer, err error) {
	if !s.instant {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.limit, errTooSlow)
		defer cancel()
	}
	if s.guard != nil {
		a, err = s.guard.answer(ctx, s.strategy, r)
	} else {
		a, err = ask(ctx, s.strategy, r)
	}
	if err != nil {
		return nil, err
	}
	return tidy(a, r.Method)
}

var errTooSlow = errors.New("no answer within its time limit")

// ask asks a strategy and survives its panic.
func ask(ctx context.Context, s Strategy, r *Request) (a *Answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			a, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	a, err = s.Answer(ctx, r)
	if err == nil && a == nil {
		err = errors.New("no answer")
	}
	return a, err
}

// safely calls a strategy's method that has nothing to say.
func (s *step) safely(what string, logger *slog.Logger, do func()) {
	defer func() {
		if p := recover(); p != nil {
			logger.Error("a fallback strategy panics", "strategy", s.name, "method", what, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	do()
}

// Learn returns what is to be told of the body of a response, nil if no strategy has a use for
// it.
func (c *Chain) Learn(client Client, status int, h http.Header) Lesson {
	if c.learner == nil {
		return nil
	}
	r := client.Request()
	r.Body, r.BodyError = client.Body(c.learner.BodyLimit())
	return c.learner.Learn(r, status, h)
}
