package app

import (
	"log/slog"

	"cbproxy/internal/events"
)

// endpointLog logs events of endpoints. It must be used by one goroutine at a time.
type endpointLog struct {
	logger *slog.Logger
	failed map[string]bool // the services whose last lookup in DNS has failed
}

// logChanged logs that an endpoint is ejected, or gets requests again.
func (l *endpointLog) logChanged(e events.EndpointChanged) {
	fields := []any{"service", e.Service, "endpoint", e.Endpoint, "cause", e.Cause}
	if e.State != events.EndpointEjected {
		l.logger.Info("endpoint gets requests again", fields...)
		return
	}
	fields = append(fields, "until", e.Until)
	if e.Failure != nil {
		fields = append(fields, "last_failure", e.Failure.Type, "detail", e.Failure.Detail)
	}
	l.logger.Warn("endpoint ejected", fields...)
}

// logLookup logs that the endpoints of a service have changed, the first of several failures of their lookup, and the first success
// after them.
func (l *endpointLog) logLookup(e events.EndpointsChanged) {
	failedBefore := l.failed[e.Service]
	l.failed[e.Service] = e.Error != ""
	switch {
	case e.Error != "" && !failedBefore:
		l.logger.Warn("cannot look up the endpoints of a service, keeping those that are known", "service", e.Service, "error", e.Error)
	case e.Error == "" && failedBefore:
		l.logger.Info("endpoints of a service are looked up again", "service", e.Service)
	}
	fields := []any{"service", e.Service}
	if len(e.Added) > 0 {
		fields = append(fields, "added", e.Added)
	}
	if len(e.Removed) > 0 {
		fields = append(fields, "removed", e.Removed)
	}
	if len(fields) > 2 {
		l.logger.Info("endpoints of a service changed in DNS", fields...)
	}
}
