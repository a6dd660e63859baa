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
func report(logger *slog.Logger) {
	otel.SetLogger(logr.FromSlogHandler(leveled{logger.Handler()}))
	otel.SetErrorHandler(newThrottled(logger))
}

// leveled maps the verbosity of the libraries, which logr turns into negative levels, to log levels: 1 is a warning, 4
// information, 8 debugging.
type leveled struct{ slog.Handler }

func (l leveled) level(v slog.Level) slog.Level {
	switch {
	case v >= slog.LevelInfo:
		return v
	case v == -1:
		return slog.LevelWarn
	}
	return slog.LevelDebug // their information is about internals
}

func (l leveled) Enabled(ctx context.Context, v slog.Level) bool {
	return l.Handler.Enabled(ctx, l.level(v))
}

func (l leveled) Handle(ctx context.Context, r slog.Record) error {
	r.Level = l.level(r.Level)
	return l.Handler.Handle(ctx, r)
}

func (l leveled) WithAttrs(attrs []slog.Attr) slog.Handler {
	return leveled{l.Handler.WithAttrs(attrs)}
}
func (l leveled) WithGroup(name string) slog.Handler { return leveled{l.Handler.WithGroup(name)} }

// throttled logs at most one error per minute with the number of errors since the previous one, because an exporter without
// its collector fails every few seconds. It is safe for concurrent use.
type throttled struct {
	logger *slog.Logger
	errors atomic.Int64 // since the last that was logged
	often  rate.Sometimes
}

const errorInterval = time.Minute

func newThrottled(logger *slog.Logger) *throttled {
	return &throttled{logger: logger, often: rate.Sometimes{Interval: errorInterval}}
}

// Handle implements otel.ErrorHandler.
func (t *throttled) Handle(err error) {
	t.errors.Add(1)
	t.often.Do(func() { t.logger.Warn("OpenTelemetry could not export", "error", err, "times", t.errors.Swap(0)) })
}
