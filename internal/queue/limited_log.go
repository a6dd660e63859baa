package queue

import (
	"log/slog"
	"sync"
	"time"
)

// limitedLog logs errors of one kind, at most one per limitedLogInterval, because there may be thousands a second. Safe for concurrent
// use.
type limitedLog struct {
	mu       sync.Mutex // guards the fields below
	lastTime time.Time
	omitted  int
}

const limitedLogInterval = 10 * time.Second

// cannotQueue is the message of a request that is not queued.
const cannotQueue = "cannot queue a request, using the next fallback"

func (l *limitedLog) log(logger *slog.Logger, message string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.lastTime.IsZero() && time.Since(l.lastTime) < limitedLogInterval {
		l.omitted++
		return
	}
	logger.Error(message, "error", err, "omitted", l.omitted)
	l.lastTime, l.omitted = time.Now(), 0
}
