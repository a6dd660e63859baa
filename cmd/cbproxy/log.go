package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"cbproxy/internal/events"
)

// newLogger returns a logger of the given format, text or json, and level.
func newLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var options slog.HandlerOptions
	var threshold slog.Level
	if err := threshold.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level must be debug, info, warn or error, got %q", level)
	}
	options.Level = threshold
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, &options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, &options)), nil
	}
	return nil, fmt.Errorf("--log-format must be text or json, got %q", format)
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
		fields := []any{"service", e.Service, "state", e.State, "reason", e.Reason}
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
