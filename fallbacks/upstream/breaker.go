package upstream

import (
	"context"
	"log/slog"
	"sync"

	"cbproxy/fallbacks"
	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/refcount"
)

// sharedBreaker is the breaker of the second upstream at one URL, and the log of its state changes.
// The strategies of successive configurations share it as long as the URL stays the same.
type sharedBreaker struct {
	url     string
	breaker *breaker.Breaker
	logger  *slog.Logger
	refs    refcount.Counter

	changes      events.Bus // the breaker publishes under its lock, so logging is asynchronous
	subscription *events.Subscription
	logging      sync.WaitGroup
}

// maxUnlogged is how many state changes may wait to be logged.
const maxUnlogged = 64

func newSharedBreaker(url string, policy breaker.Policy, env fallbacks.Env) *sharedBreaker {
	b := &sharedBreaker{url: url, logger: env.Logger}
	b.breaker = breaker.New(env.Service, policy, b.changes.Publish)
	return b
}

// acquire adds a reference. The first one starts the log.
func (b *sharedBreaker) acquire() {
	b.refs.Acquire(func() {
		b.subscription = b.changes.Subscribe(maxUnlogged)
		b.logging.Go(b.logChanges)
	})
}

// release removes a reference. The last one stops the breaker and the log.
func (b *sharedBreaker) release() {
	b.refs.Release(func() {
		b.breaker.Close()
		b.subscription.Close()
		b.logging.Wait()
	})
}

// logChanges returns when the subscription is closed and all its events are logged.
func (b *sharedBreaker) logChanges() {
	for {
		e, missed, err := b.subscription.Next(context.Background())
		if err != nil {
			return
		}
		if missed > 0 {
			b.logger.Warn("state changes of the fallback upstream's breaker not logged", "missed", missed)
		}
		if c, ok := e.(events.StateChanged); ok {
			attrs := []any{"url", b.url, "from", c.From.String(), "to", c.To.String(), "cause", c.Cause}
			if c.Failure != nil {
				attrs = append(attrs, "last_failure", c.Failure.Type, "detail", c.Failure.Detail)
			}
			b.logger.Warn("fallback upstream's breaker changed state", attrs...)
		}
	}
}
