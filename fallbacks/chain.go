package fallbacks

import (
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"time"

	"cbproxy/internal/events"
)

// Chain holds the strategies of one route in the order in which they are tried. It is safe for
// concurrent use.
type Chain struct {
	steps        []step
	bodyLimit    int64
	observers    []*step // those of inline strategies that are Observers
	interceptors []*step // those of inline strategies that are Interceptors
	logger       *slog.Logger
}

// step is one strategy of a chain.
type step struct {
	name        string
	strategy    Strategy
	test        Strategy // for tests of the fallback; usually the same
	timeLimit   time.Duration
	readsBody   bool       // the strategy is a BodyReader
	bodyLimit   int64      // 0 if it is none
	nonBlocking bool       // no time limit is set
	stores      bool       // the strategy is a Storer
	selective   Selective  // nil if the strategy is none
	constant    *Answer    // the answer of a Constant strategy, else nil
	isolation   *isolation // nil for inline strategies
}

// NewChain returns a chain of the strategies named in try, not yet started. options holds the
// options of each, as made by Options. previous is the service's current chain, nil if it has none.
func NewChain(try []string, options map[string]any, env Env, previous *Chain) (*Chain, error) {
	c := &Chain{logger: env.Logger}
	for _, name := range try {
		stepEnv := env
		if previous != nil {
			stepEnv.Previous = previous.Strategy(name)
		}
		s, err := newStep(name, options[name], stepEnv)
		if err != nil {
			return nil, err
		}
		c.steps = append(c.steps, s)
	}
	c.initSteps()
	return c, nil
}

// initSteps sets what follows from the steps.
func (c *Chain) initSteps() {
	for i := range c.steps {
		s := &c.steps[i]
		c.bodyLimit = max(c.bodyLimit, s.bodyLimit)
		if s.isolation != nil {
			continue // Observer and Interceptor are called while the upstream is available
		}
		if _, ok := s.strategy.(Observer); ok {
			c.observers = append(c.observers, s)
		}
		if _, ok := s.strategy.(Interceptor); ok {
			c.interceptors = append(c.interceptors, s)
		}
	}
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

// BodyLimit returns the size in bytes of the longest request body that any of the strategies uses.
func (c *Chain) BodyLimit() int64 { return c.bodyLimit }

// Start starts the strategies. It is called once, when the chain takes effect.
func (c *Chain) Start() {
	for i := range c.steps {
		if s, ok := c.steps[i].strategy.(Starter); ok {
			c.steps[i].recoverPanic("start", c.logger, s.Start)
		}
	}
}

// Close closes the strategies. It is called once, after the last request, and only for a chain
// that was started.
func (c *Chain) Close() {
	for i := range c.steps {
		if s, ok := c.steps[i].strategy.(io.Closer); ok {
			c.steps[i].recoverPanic("close", c.logger, func() {
				if err := s.Close(); err != nil {
					c.logger.Warn("cannot close fallback strategy", "strategy", c.steps[i].name, "error", err)
				}
			})
		}
	}
}

// recoverPanic calls a method of the strategy and logs its panic.
func (s *step) recoverPanic(method string, logger *slog.Logger, call func()) {
	defer func() {
		if p := recover(); p != nil {
			logger.Error("fallback strategy panicked", "strategy", s.name, "method", method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	call()
}

// Intercept reports whether requests with the given method must be answered by the chain even
// though the upstream is available. reason is why earlier requests can't be sent upstream, or "" if
// they are being sent. It is that of the first strategy that intercepts.
func (c *Chain) Intercept(method string) (reason events.Reason, ok bool) {
	for _, s := range c.interceptors {
		s.recoverPanic("intercept", c.logger, func() {
			var r string
			r, ok = s.strategy.(Interceptor).Intercept(method)
			reason = events.Reason(r)
		})
		if ok {
			return reason, true
		}
	}
	return "", false
}

// Constant returns the name of the first strategy that gives the same answer to every request.
func (c *Chain) Constant() (strategy string, ok bool) {
	for i := range c.steps {
		if c.steps[i].constant != nil {
			return c.steps[i].name, true
		}
	}
	return "", false
}

// CacheStats returns the metrics of the chain's cache, all zero if c is nil or has none.
func (c *Chain) CacheStats() (stats CacheStats) {
	if s, r := find[CacheReporter](c); s != nil {
		s.recoverPanic("cache stats", c.logger, func() { stats = r.CacheStats() })
	}
	return stats
}

// BreakerState returns the state of the breaker that one of the strategies has; ok is false if c
// is nil or none has.
func (c *Chain) BreakerState() (state events.State, ok bool) {
	if s, r := find[BreakerReporter](c); s != nil {
		s.recoverPanic("breaker state", c.logger, func() { state, ok = r.BreakerState(), true })
	}
	return state, ok
}

// find returns the first inline strategy that implements T, nil if there is none. A nil chain has none.
func find[T any](c *Chain) (*step, T) {
	if c != nil {
		for i := range c.steps {
			s := &c.steps[i]
			if t, ok := s.strategy.(T); ok && s.isolation == nil {
				return s, t
			}
		}
	}
	return nil, *new(T)
}
