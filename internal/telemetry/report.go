package telemetry

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
)

// report makes logger hear what OpenTelemetry's libraries have to say.
func report(logger *slog.Logger) {
	otel.SetLogger(logr.FromSlogHandler(leveled{logger.Handler()}))
	otel.SetErrorHandler(&throttled{logger: logger})
}

// leveled gives the libraries' verbosities, which logr makes negative levels of, the levels
// that they say they mean: 1 is a warning, 4 is information, 8 is for finding faults.
type leveled struct{ slog.Handler }

func (l leveled) level(v slog.Level) slog.Level {
	switch {
	case v >= slog.LevelInfo:
		return v
	case v == -1:
		return slog.LevelWarn
	}
	return slog.LevelDebug // their information is about themselves
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

// throttled logs an error a minute, and how many there were since the last one: an exporter
// whose collector is away has one every few seconds.
type throttled struct {
	logger *slog.Logger

	mu      sync.Mutex // guards what follows
	last    time.Time
	omitted int
}

const errorPause = time.Minute

// Handle implements otel.ErrorHandler.
func (t *throttled) Handle(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); t.last.IsZero() || now.Sub(t.last) >= errorPause {
		t.logger.Warn("OpenTelemetry could not export", "error", err, "times", t.omitted+1)
		t.last, t.omitted = now, 0
		return
	}
	t.omitted++
}
