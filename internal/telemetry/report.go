package telemetry

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"golang.org/x/time/rate"
)

// report redirects the messages and errors of the OpenTelemetry libraries to logger.
func redirectLogs(logger *slog.Logger) {
	otel.SetLogger(logr.FromSlogHandler(levelHandler{logger.Handler()}))
	otel.SetErrorHandler(newThrottledErrors(logger))
}

// levelHandler maps the verbosity of the libraries, which logr turns into negative levels, to log levels: 1 is a warning, 4
// information, 8 debugging.
type levelHandler struct{ slog.Handler }

func (l levelHandler) level(v slog.Level) slog.Level {
	switch {
	case v >= slog.LevelInfo:
		return v
	case v == -1:
		return slog.LevelWarn
	}
	return slog.LevelDebug // the libraries' information is about their internals
}

func (l levelHandler) Enabled(ctx context.Context, v slog.Level) bool {
	return l.Handler.Enabled(ctx, l.level(v))
}

func (l levelHandler) Handle(ctx context.Context, r slog.Record) error {
	r.Level = l.level(r.Level)
	return l.Handler.Handle(ctx, r)
}

func (l levelHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return levelHandler{l.Handler.WithAttrs(attrs)}
}
func (l levelHandler) WithGroup(name string) slog.Handler {
	return levelHandler{l.Handler.WithGroup(name)}
}

// throttledErrors logs at most one error per minute with the number of errors since the previous one, because an exporter without
// its collector fails every few seconds. It is safe for concurrent use.
type throttledErrors struct {
	logger *slog.Logger
	errors atomic.Int64 // since the last one that was logged
	limit  rate.Sometimes
}

const errorInterval = time.Minute

func newThrottledErrors(logger *slog.Logger) *throttledErrors {
	return &throttledErrors{logger: logger, limit: rate.Sometimes{Interval: errorInterval}}
}

// Handle implements otel.ErrorHandler.
func (t *throttledErrors) Handle(err error) {
	t.errors.Add(1)
	t.limit.Do(func() { t.logger.Warn("cannot export OpenTelemetry data", "error", err, "times", t.errors.Swap(0)) })
}
