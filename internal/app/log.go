package app

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os/signal"
	"syscall"

	"cbproxy/internal/events"
	"cbproxy/internal/sanitize"
)

// NewLogger returns a logger of the given format, text or json, and level.
func NewLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var options slog.HandlerOptions
	var threshold slog.Level
	if err := threshold.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level must be debug, info, warn or error, got %q", level)
	}
	options.Level = threshold
	options.ReplaceAttr = sanitizeAttr
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, &options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, &options)), nil
	}
	return nil, fmt.Errorf("--log-format must be text or json, got %q", format)
}

// IgnoreClosedPipes makes a write to standard output or error whose reader has closed the pipe fail with EPIPE instead of
// killing the process with SIGPIPE. Long-running commands call it before they write anything.
func IgnoreClosedPipes() { signal.Ignore(syscall.SIGPIPE) }

// CaptureStandardLog redirects the standard log package, which net/http uses, to logger.
func CaptureStandardLog(logger *slog.Logger) {
	log.SetFlags(0)
	log.SetOutput(slog.NewLogLogger(logger.Handler(), slog.LevelDebug).Writer())
}

// Maximum lengths of logged values in bytes, as clients and upstreams control many of them.
const (
	maxLogged = 1 << 10
	maxReport = 16 << 10 // of a stack or an error, which may list all errors of a configuration
)

// sanitizeAttr truncates a value and escapes terminal control characters. The handlers escape line breaks.
func sanitizeAttr(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Any().(type) {
	case string:
		limit := maxLogged
		if a.Key == "stack" || a.Key == "error" {
			limit = maxReport
		}
		a.Value = slog.StringValue(sanitize.Lines(v, limit))
	case error:
		a.Value = slog.StringValue(sanitize.Lines(v.Error(), maxReport))
	}
	return a
}

// logEvents logs each event of sub until ctx is done.
func logEvents(ctx context.Context, logger *slog.Logger, sub *events.Subscription) {
	endpoints := endpointLog{logger: logger, failed: map[string]bool{}}
	for {
		e, missed, err := sub.Next(ctx)
		if err != nil {
			return
		}
		if missed > 0 {
			logger.Warn("events lost, logging was too slow", "missed", missed)
		}
		switch e := e.(type) {
		case events.EndpointChanged:
			endpoints.logChanged(e)
		case events.EndpointsChanged:
			endpoints.logLookup(e)
		default:
			logEvent(logger, e)
		}
	}
}

// logEvent logs a state change of a service or of a key, a changed end of an opening, a forced state, a change of the admission, the start and the end of a
// fault, a change of overrides, a report of what was learnt, or a reload. Other events, except those of endpoints, are not logged.
func logEvent(logger *slog.Logger, e events.Event) {
	switch e := e.(type) {
	case events.StateChanged:
		fields := []any{"service", e.Service, "from", e.From.String(), "to", e.To.String(), "cause", e.Cause,
			"requests", e.Counts.Requests, "failures", e.Counts.Failures, "consecutive_failures", e.Counts.ConsecutiveFailures}
		if !e.Until.IsZero() {
			fields = append(fields, "until", e.Until)
		}
		if e.Failure != nil {
			fields = append(fields, "last_failure", e.Failure.Type, "detail", e.Failure.Detail)
		}
		if e.Reason != "" {
			fields = append(fields, "reason", e.Reason)
		}
		logger.Warn("circuit breaker changed its state", fields...)
	case events.KeyStateChanged:
		fields := []any{"service", e.Service, "from", e.From.String(), "to", e.To.String(), "cause", e.Cause}
		if e.Omitted > 0 {
			fields = append(fields, "omitted", e.Omitted)
		}
		logger.Info("circuit breaker of a key changed its state", fields...)
	case events.UntilChanged:
		logger.Info("circuit breaker changed the end of its opening", "service", e.Service, "until", e.Until, "cause", e.Cause)
	case events.Forced:
		fields := []any{"service", e.Service, "state", e.State, "reason", e.Reason, "fleet", e.Shared}
		if !e.Until.IsZero() {
			fields = append(fields, "until", e.Until)
		}
		logger.Warn("circuit breaker forced", fields...)
	case events.AdmissionChanged:
		if e.RejectedRatio > 0 {
			logger.Warn("circuit breaker began to reject a share of the requests",
				"service", e.Service, "reason", e.Reason, "rejected_ratio", e.RejectedRatio, "mode", e.Mode)
		} else {
			logger.Info("circuit breaker stopped rejecting a share of the requests", "service", e.Service, "reason", e.Reason)
		}
	case events.FaultStarted:
		fields := append(faultFields(e.Service, e.Fault), "share", e.Fault.Share, "until", e.Fault.Until, "reason", e.Fault.Reason)
		logger.Warn("fault injection started", fields...)
	case events.FaultEnded:
		logger.Info("fault injection ended", append(faultFields(e.Service, e.Fault), "cause", e.Cause, "reason", e.Reason)...)
	case events.OverridesChanged:
		logOverrides(logger, e)
	case events.AdaptiveReport:
		logger.Warn(adaptiveMessages[e.Report], "service", e.Service, "healthy_failure_ratio", e.FailureRatio, "calls", e.Calls, "failures", e.Failures)
	case events.Reloaded:
		if e.Error != "" {
			logger.Error("configuration rejected, keeping the current one", "error", e.Error)
			return
		}
		logger.Info("configuration active", "hash", e.Hash)
		if len(e.RestartRequired) > 0 {
			logger.Warn("some changed keys need a restart", "keys", e.RestartRequired)
		}
	}
}

// logOverrides logs a change of overrides.
func logOverrides(logger *slog.Logger, e events.OverridesChanged) {
	fields := []any{"service", e.Service, "keys", e.Overrides.Keys()}
	switch e.Cause {
	case events.OverridesSet:
		logger.Warn("overrides set", append(fields, "until", e.Overrides.Until, "reason", e.Overrides.Reason)...)
	case events.OverridesDropped:
		logger.Error("overrides dropped, they do not fit the configuration", append(fields, "error", e.Error)...)
	default:
		logger.Info("overrides ended", append(fields, "cause", e.Cause, "reason", e.Reason)...)
	}
}

// faultFields returns the fields of a log record that identify a fault and what it does.
func faultFields(service string, f events.Fault) []any {
	fields := []any{"service", service, "fault", f.ID, "kind", f.Kind}
	if f.Status != 0 {
		fields = append(fields, "status", f.Status)
	}
	if f.Delay != 0 {
		fields = append(fields, "delay", f.Delay.String())
	}
	return fields
}

// adaptiveMessages are the log messages of events.AdaptiveReport.
var adaptiveMessages = map[events.AdaptiveReportKind]string{
	events.AdaptiveEvidence: "failures are unlikely for a healthy upstream, the circuit breaker would open in mode enforce",
	events.AdaptiveDemoted:  "too many openings by unlikely failures were refuted, breaker.adaptive is in shadow mode until another limit confirms one, its configuration changes or its baseline is reset",
	events.AdaptiveRestored: "another limit has confirmed that failures were unlikely for a healthy upstream, breaker.adaptive is in mode enforce again",
}
