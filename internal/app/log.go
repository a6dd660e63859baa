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
	options.ReplaceAttr = harmless
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, &options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, &options)), nil
	}
	return nil, fmt.Errorf("--log-format must be text or json, got %q", format)
}

// IgnoreClosedPipes makes writing to a standard output or error whose reader has gone fail with EPIPE, instead of ending the
// process by SIGPIPE. Commands that serve call it before they write anything; all others end as is usual in a pipeline.
func IgnoreClosedPipes() { signal.Ignore(syscall.SIGPIPE) }

// CaptureStandardLog makes what net/http says through the log package lines of logger's.
func CaptureStandardLog(logger *slog.Logger) {
	log.SetFlags(0)
	log.SetOutput(slog.NewLogLogger(logger.Handler(), slog.LevelDebug).Writer())
}

// What of one value is logged. Clients and upstreams have a say in many.
const (
	maxLogged = 1 << 10
	maxReport = 16 << 10 // of a stack, and of an error, which may be a list of an edit's faults
)

// harmless bounds a value and escapes what a terminal or a reader of lines may act on. It
// leaves line ends to the handlers, which escape them.
func harmless(_ []string, a slog.Attr) slog.Attr {
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

// logEvents writes one line an event until ctx is done.
func logEvents(ctx context.Context, logger *slog.Logger, sub *events.Subscription) {
	for {
		e, missed, err := sub.Next(ctx)
		if err != nil {
			return
		}
		if missed > 0 {
			logger.Warn("events came faster than they could be logged", "missed", missed)
		}
		logEvent(logger, e)
	}
}

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
	case events.Forced:
		fields := []any{"service", e.Service, "state", e.State, "reason", e.Reason, "fleet", e.Shared}
		if !e.Until.IsZero() {
			fields = append(fields, "until", e.Until)
		}
		logger.Warn("circuit breaker forced", fields...)
	case events.Reloaded:
		if e.Error != "" {
			logger.Error("configuration refused, the one in force stays", "error", e.Error)
			return
		}
		logger.Info("configuration in force", "hash", e.Hash)
		if len(e.RestartRequired) > 0 {
			logger.Warn("some changed keys need a restart", "keys", e.RestartRequired)
		}
	}
}
