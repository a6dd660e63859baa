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

// Condition tells whether Redis can be used.
type Condition struct {
	// Up tells that Redis was reached and that nothing that was asked of it fails.
	Up bool
	// Since is when Up last changed; zero before Redis was first reached or missed.
	Since time.Time
	// LastError is the last failure, however long ago; "" if there was none.
	LastError string
	// Operations and Errors count what was asked of Redis, and how much of that failed.
	Operations, Errors uint64
}

// How long something that failed counts as failing when it is not asked again. What is still
// wanted is asked more often, unless the server said that there is no use.
const (
	faultLife          = 15 * time.Second
	permanentFaultLife = time.Minute
)

type fault struct {
	at   time.Time
	life time.Duration
}

// condition keeps the outcome of everything that is asked of Redis. One thing may fail while
// all others work: a key may hold what it should not. It tells the log of changes only.
type condition struct {
	logger *slog.Logger

	mu                 sync.Mutex       // guards what follows; nothing but the log is called under it
	faults             map[string]fault // of what fails, by what it is
	up                 bool
	since              time.Time
	lastError          string
	operations, errors uint64
}

// note keeps the outcome of one thing. What ctx ended is no verdict on Redis.
func (c *condition) note(what string, err error, ctx context.Context) {
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.operations++
	if err == nil {
		delete(c.faults, what)
	} else {
		c.errors++
		c.faults[what] = fault{time.Now(), faultLife}
		if permanent(err) {
			c.faults[what] = fault{time.Now(), permanentFaultLife}
		}
		c.lastError = err.Error()
	}
	c.weigh()
}

// weigh tells the log if Redis can be used and could not, or the other way round.
func (c *condition) weigh() {
	for what, f := range c.faults {
		if time.Since(f.at) > f.life {
			delete(c.faults, what)
		}
	}
	up := len(c.faults) == 0
	if up == c.up && !c.since.IsZero() {
		return
	}
	was := c.since
	c.up, c.since = up, time.Now()
	switch {
	case !up:
		c.logger.Warn("Redis can't be used; every breaker goes by what it knows itself until it can", "error", c.lastError)
	case was.IsZero():
		c.logger.Info("Redis is used")
	default:
		c.logger.Info("Redis can be used again", "after", time.Since(was).Round(time.Millisecond).String())
	}
}

// Condition returns whether Redis can be used, as it was found last.
func (c *condition) Condition() Condition {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.since.IsZero() {
		c.weigh()
	}
	return Condition{Up: c.up, Since: c.since, LastError: c.lastError, Operations: c.operations, Errors: c.errors}
}

var errNoAnswer = errors.New("no answer in time")

// plainError returns err in the operator's words where go-redis has none.
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

// permanent tells whether a server's reply says that asking again is of no use until somebody
// has mended something.
func permanent(err error) bool {
	return redis.HasErrorPrefix(err, "WRONGTYPE") || redis.HasErrorPrefix(err, "NOPERM")
}

// TakeLog sends what go-redis would print to the debug level of the store's log. It is for the
// whole process.
func (r *Redis) TakeLog() { redis.SetLogger(redisLog{r}) }

type redisLog struct{ *Redis }

// Printf implements go-redis's logging.
func (l redisLog) Printf(ctx context.Context, format string, args ...any) {
	if l.logger.Enabled(ctx, slog.LevelDebug) {
		l.logger.DebugContext(ctx, "go-redis says something", "text", l.withoutSecrets(fmt.Sprintf(format, args...)))
	}
}
