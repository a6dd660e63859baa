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

// Health describes whether Redis is usable.
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

// healthRecorder records the outcome of every operation by its name, because one can fail while the others work, for example if a key
// has the wrong type. It logs only when Redis becomes usable or unusable.
type healthRecorder struct {
	logger *slog.Logger

	mu                 sync.Mutex         // guards the fields below; only the logger is called under it
	failures           map[string]failure // failing operations by name
	up                 bool
	since              time.Time
	lastError          string
	operations, errors uint64
}

// recordResult records the outcome of an operation. It ignores errors that the cancellation of ctx caused.
func (h *healthRecorder) recordResult(ctx context.Context, operation string, err error) {
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.operations++
	if err == nil {
		delete(h.failures, operation)
	} else {
		h.errors++
		h.failures[operation] = failure{time.Now(), failureTTL}
		if permanent(err) {
			h.failures[operation] = failure{time.Now(), permanentFailureTTL}
		}
		h.lastError = err.Error()
	}
	h.update()
}

// update recomputes up and logs a change; mu must be held.
func (h *healthRecorder) update() {
	for operation, f := range h.failures {
		if time.Since(f.at) > f.ttl {
			delete(h.failures, operation)
		}
	}
	up := len(h.failures) == 0
	if up == h.up && !h.since.IsZero() {
		return
	}
	was := h.since
	h.up, h.since = up, time.Now()
	switch {
	case !up:
		h.logger.Warn("Redis unavailable, breakers use local state", "error", h.lastError)
	case was.IsZero():
		h.logger.Info("Redis available")
	default:
		h.logger.Info("Redis available again", "after", time.Since(was).Round(time.Millisecond).String())
	}
}

// Health returns the current health. Safe for concurrent use.
func (h *healthRecorder) Health() Health {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.since.IsZero() {
		h.update()
	}
	return Health{Up: h.up, Since: h.since, LastError: h.lastError, Operations: h.operations, Errors: h.errors}
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

// RedirectClientLog redirects the log of go-redis to the debug level of the store's logger, for the whole process.
func (r *Redis) RedirectClientLog() { redis.SetLogger(redisLog{r}) }

type redisLog struct{ *Redis }

// Printf implements go-redis's logging.
func (l redisLog) Printf(ctx context.Context, format string, args ...any) {
	if l.logger.Enabled(ctx, slog.LevelDebug) {
		l.logger.DebugContext(ctx, "go-redis log message", "text", l.withoutSecrets(fmt.Sprintf(format, args...)))
	}
}
