package service

import (
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"cbproxy/internal/events"
)

// failureLog logs the failures of one service, at most one per second, so that the log of an unreachable upstream stays small. It
// is safe for concurrent use.
type failureLog struct {
	sometimes rate.Sometimes
	omitted   atomic.Int64 // failures since the last record
}

func newFailureLog() *failureLog {
	return &failureLog{sometimes: rate.Sometimes{Interval: time.Second}}
}

// logFailure logs a failure of the upstream.
func (l *failureLog) logFailure(logger *slog.Logger, service string, f *events.Failure) {
	if omitted, due := l.due(); due {
		logger.Warn("upstream failed", "service", service, "type", f.Type, "detail", f.Detail, "omitted", omitted)
	}
}

// logCheck logs the failure of a health check of an endpoint.
func (l *failureLog) logCheck(logger *slog.Logger, service, endpoint string, f *events.Failure) {
	if omitted, due := l.due(); due {
		logger.Warn("health check failed", "service", service, "endpoint", endpoint, "type", f.Type, "detail", f.Detail, "omitted", omitted)
	}
}

// logLocalError logs a request that failed because this machine lacked a resource.
func (l *failureLog) logLocalError(logger *slog.Logger, service string, kind events.LocalError, err error) {
	if omitted, due := l.due(); due {
		logger.Warn("local resource exhausted, request not counted as an upstream failure", "service", service, "resource", kind, "error", err, "omitted", omitted)
	}
}

// logExpressionError logs that failure_when could not be evaluated for a response.
func (l *failureLog) logExpressionError(logger *slog.Logger, service string, err error) {
	if omitted, due := l.due(); due {
		logger.Warn("cannot evaluate failure_when, response not counted as a failure", "service", service, "error", err, "omitted", omitted)
	}
}

// due reports whether a failure is to be logged, and how many have been omitted since the last one.
func (l *failureLog) due() (omitted int64, due bool) {
	l.sometimes.Do(func() { due = true })
	if !due {
		l.omitted.Add(1)
		return 0, false
	}
	return l.omitted.Swap(0), true
}
