package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Condition describes whether Redis is usable.
type Health struct {
	// Up is whether Redis was reached and no operation is failing.
	Up bool
	// Since is when Up last changed; zero before the first operation.
	Since time.Time
	// LastError is the last error, "" if there was none.
	LastError string
	// Operations and Errors count all operations and those that failed.
	Operations, Errors uint64
}

// An operation that failed counts as failing for this time if it is not repeated. Operations that are still needed are repeated more
// often, unless the server's error is permanent.
const (
	failureTTL          = 15 * time.Second
	permanentFailureTTL = time.Minute
)

type failure struct {
	at  time.Time
	ttl time.Duration
}

// condition records the outcome of every operation by its name, because one can fail while the others work, for example if a key has the
// wrong type. It logs changes only.
type healthRecorder struct {
	logger *slog.Logger

	mu                 sync.Mutex         // guards the fields below; only the logger is called under it
	failures           map[string]failure // failing operations by name
	up                 bool
	since              time.Time
	lastError          string
	operations, errors uint64
}

// note records the outcome of an operation. It ignores errors that the cancellation of ctx caused.
func (c *healthRecorder) recordResult(what string, err error, ctx context.Context) {
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.operations++
	if err == nil {
		delete(c.failures, what)
	} else {
		c.errors++
		c.failures[what] = failure{time.Now(), failureTTL}
		if permanent(err) {
			c.failures[what] = failure{time.Now(), permanentFailureTTL}
		}
		c.lastError = err.Error()
	}
	c.update()
}

// update recomputes up and logs a change; mu must be held.
func (c *healthRecorder) update() {
	for what, f := range c.failures {
		if time.Since(f.at) > f.ttl {
			delete(c.failures, what)
		}
	}
	up := len(c.failures) == 0
	if up == c.up && !c.since.IsZero() {
		return
	}
	was := c.since
	c.up, c.since = up, time.Now()
	switch {
	case !up:
		c.logger.Warn("Redis unavailable, breakers use local state", "error", c.lastError)
	case was.IsZero():
		c.logger.Info("Redis available")
	default:
		c.logger.Info("Redis available again", "after", time.Since(was).Round(time.Millisecond).String())
	}
}

// Condition returns the current condition. Safe for concurrent use.
func (c *healthRecorder) Health() Health {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.since.IsZero() {
		c.update()
	}
	return Health{Up: c.up, Since: c.since, LastError: c.lastError, Operations: c.operations, Errors: c.errors}
}

var errNoAnswer = errors.New("no answer in time")

// plainError replaces errors of go-redis that operators would not understand.
func plainError(err error) error {
	var network net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return errNoAnswer
	case errors.Is(err, redis.ErrClosed):
		return errors.New("the client is closed")
	}
	return err
}

// permanent reports whether repeating the operation is useless until an operator fixes the cause.
func permanent(err error) bool {
	return redis.HasErrorPrefix(err, "WRONGTYPE") || redis.HasErrorPrefix(err, "NOPERM")
}

// TakeLog redirects the log of go-redis to the debug level of the store's logger, for the whole process.
func (r *Redis) RedirectClientLog() { redis.SetLogger(redisLog{r}) }

type redisLog struct{ *Redis }

// Printf implements go-redis's logging.
func (l redisLog) Printf(ctx context.Context, format string, args ...any) {
	if l.logger.Enabled(ctx, slog.LevelDebug) {
		l.logger.DebugContext(ctx, "go-redis log message", "text", l.withoutSecrets(fmt.Sprintf(format, args...)))
	}
}
