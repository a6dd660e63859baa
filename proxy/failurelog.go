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
	if omitted, due := l.due(f.Time); due {
		logger.Warn("upstream failed", "service", service, "type", f.Type, "detail", f.Detail, "omitted", omitted)
	}
}

// logLocal logs a failure of this machine.
func (l *failureLog) logLocal(logger *slog.Logger, service string, kind events.LocalError, err error) {
	if omitted, due := l.due(time.Now()); due {
		logger.Warn("this machine cannot carry out requests, the upstream is not to blame", "service", service, "lacks", kind, "error", err, "omitted", omitted)
	}
}

// due reports whether there is to be a line now, and how many have been omitted since the last one.
func (l *failureLog) due(now time.Time) (omitted int, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Before(l.next) {
		l.omitted++
		return 0, false
	}
	omitted = l.omitted
	l.omitted, l.next = 0, now.Add(failureLogInterval)
	return omitted, true
}
