package accesslog

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/sanitize"
)

// Maximum lengths of fields in bytes. A line, in which quoting may double each, is never longer than PIPE_BUF.
const (
	maxPath      = 640
	maxQuery     = 448
	maxUserAgent = 192
	maxName      = 128 // of a service
	maxEndpoint  = 160
	maxWord      = 64 // of a field that is a single token in well-formed requests
)

// newHandler returns a handler that writes each line to w with one Write.
func newHandler(w io.Writer, format, instance string) slog.Handler {
	var h slog.Handler = slog.NewJSONHandler(w, nil)
	if format == "text" {
		h = slog.NewTextHandler(w, nil)
	}
	if instance == "" {
		return h
	}
	return h.WithAttrs([]slog.Attr{slog.String("instance", instance)})
}

// isRoutine reports whether a request may be left out by sampling.
func isRoutine(a *events.AccessRecord) bool {
	return a.Result == events.ResultSuccess && a.Strategy == "" && a.Attempts == 1 && a.Status > 0 && a.Status < 500 && !a.Truncated &&
		!slices.Contains(grpcErrors, a.GRPCStatus)
}

// grpcErrors are the gRPC status codes that correspond to an HTTP status of 500 or more.
var grpcErrors = []string{"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}

// refused is the outcome of a request that reached no route.
const refused = "refused"

// handle writes the line of a. Fields that do not apply are left out.
func handle(h slog.Handler, a *events.AccessRecord, query bool) error {
	attrs := make([]slog.Attr, 0, 26)
	add := func(attr slog.Attr) { attrs = append(attrs, attr) }
	word := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, sanitize.Line(value, maxWord)))
		}
	}
	if a.Service != "" {
		add(slog.String("service", sanitize.Line(a.Service, maxName)))
	}
	known := a.Method != "" || a.Path != "" // otherwise the header section was not parsed
	word("method", a.Method)
	if known {
		add(slog.String("path", sanitize.Line(a.Path, maxPath)))
	}
	if query && a.Query != "" {
		add(slog.String("query", sanitize.Line(a.Query, maxQuery)))
	}
	word("protocol", a.Protocol)
	add(slog.Int("status", a.Status))
	word("grpc_status", a.GRPCStatus)
	if a.Service == "" {
		word("outcome", refused)
	} else {
		word("outcome", string(a.Result))
		word("state", a.State.String())
		add(slog.Int("attempts", a.Attempts))
	}
	if a.Endpoint != "" {
		add(slog.String("endpoint", sanitize.Line(a.Endpoint, maxEndpoint)))
	}
	if a.Hedged {
		add(slog.Bool("hedged", true))
	}
	if a.Failure != nil {
		word("error", string(a.Failure.Type))
	}
	word("fallback", a.Strategy)
	word("reason", string(a.Reason))
	word("shed", string(a.Shed))
	if a.Truncated {
		add(slog.Bool("cut", true))
	}
	if known {
		add(slog.Float64("duration_ms", milliseconds(a.Duration)))
	}
	if a.Attempts > 0 {
		add(slog.Float64("upstream_ms", milliseconds(a.Upstream)))
	}
	if a.Header > 0 {
		add(slog.Float64("header_ms", milliseconds(a.Header)))
	}
	if known {
		add(slog.Int64("request_bytes", a.RequestBytes))
		add(slog.Int64("response_bytes", a.ResponseBytes))
	}
	word("client", a.Client)
	if a.UserAgent != "" {
		add(slog.String("user_agent", sanitize.Line(a.UserAgent, maxUserAgent)))
	}
	word("trace_id", a.TraceID)
	r := slog.NewRecord(a.Arrived.UTC(), slog.LevelInfo, "request", 0)
	r.AddAttrs(attrs...)
	return h.Handle(context.Background(), r)
}

// milliseconds returns d in milliseconds, with a resolution of 1 µs.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
