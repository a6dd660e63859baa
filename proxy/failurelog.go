package proxy

import (
	"log/slog"
	"sync"
	"time"

	"cbproxy/internal/events"
)

// failureLogInterval is the shortest time between two lines on one service's failures.
const failureLogInterval = time.Second

// failureLog samples the lines on one service's failures: a dead upstream must not fill the
// disk. Safe for concurrent use; the zero failureLog is ready.
type failureLog struct {
	mu      sync.Mutex // guards what follows
	next    time.Time
	omitted int
}

func (l *failureLog) log(logger *slog.Logger, service string, f *events.Failure) {
	l.mu.Lock()
	if f.Time.Before(l.next) {
		l.omitted++
		l.mu.Unlock()
		return
	}
	omitted := l.omitted
	l.omitted, l.next = 0, f.Time.Add(failureLogInterval)
	l.mu.Unlock()
	logger.Warn("upstream failed", "service", service, "type", f.Type, "detail", f.Detail, "omitted", omitted)
}
