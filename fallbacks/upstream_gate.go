package fallbacks

import (
	"context"
	"log/slog"
	"sync"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/upstream"
)

// gate is the breaker of the second upstream at one URL, and the log of its changes. It is as
// old as the URL's place in the configuration.
type gate struct {
	url     string
	breaker *breaker.Breaker
	logger  *slog.Logger
	refs    upstream.RefCount

	changes events.Bus // what the breaker says under its lock is logged without it
	log     *events.Subscription
	logging sync.WaitGroup
}

// maxUnlogged is how many changes of a breaker wait for a log that is slow.
const maxUnlogged = 64

func newGate(url string, policy breaker.Policy, site Site) *gate {
	g := &gate{url: url, logger: site.Logger}
	g.breaker = breaker.New(site.Service, policy, g.changes.Publish)
	return g
}

func (g *gate) hold() {
	g.refs.Acquire(func() {
		g.log = g.changes.Subscribe(maxUnlogged)
		g.logging.Go(g.logChanges)
	})
}

// release ends the breaker's clock and the log if nobody else holds the gate.
func (g *gate) release() {
	g.refs.Release(func() {
		g.breaker.Close()
		g.log.Close()
		g.logging.Wait()
	})
}

// logChanges logs until the log is closed, and then what is left.
func (g *gate) logChanges() {
	for {
		e, missed, err := g.log.Next(context.Background())
		if err != nil {
			return
		}
		if missed > 0 {
			g.logger.Warn("the fallback's upstream changed its state faster than could be logged", "missed", missed)
		}
		if c, ok := e.(events.StateChanged); ok {
			fields := []any{"url", g.url, "from", c.From.String(), "to", c.To.String(), "cause", c.Cause}
			if c.Failure != nil {
				fields = append(fields, "last_failure", c.Failure.Type, "detail", c.Failure.Detail)
			}
			g.logger.Warn("the fallback's upstream changed its breaker's state", fields...)
		}
	}
}
