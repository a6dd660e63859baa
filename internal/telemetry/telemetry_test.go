package telemetry

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// environ makes the environment's OTEL_ variables those given, "NAME=value" each.
func environ(t *testing.T, variables ...string) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "OTEL_") {
			t.Setenv(name, "")
		}
	}
	for _, v := range variables {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
}

func started(t *testing.T) (*Telemetry, error) {
	t.Helper()
	made, err := Start(t.Context(), Config{Metrics: prometheus.NewRegistry(), Version: "1", Instance: "one", Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		t.Cleanup(func() { _ = made.Close(t.Context()) })
	}
	return made, err
}

func TestEnvironmentSwitchesSignalsOn(t *testing.T) {
	const nobody = "http://127.0.0.1:1"
	for name, c := range map[string]struct {
		variables       []string
		traces, metrics bool
	}{
		"nothing":                       {nil, false, false},
		"an endpoint":                   {[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + nobody}, true, true},
		"an endpoint of traces":         {[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=" + nobody}, true, false},
		"an endpoint of metrics":        {[]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=" + nobody}, false, true},
		"an exporter of traces":         {[]string{"OTEL_TRACES_EXPORTER=otlp"}, true, false},
		"gRPC":                          {[]string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, true, false},
		"an endpoint, but no metrics":   {[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + nobody, "OTEL_METRICS_EXPORTER=none"}, true, false},
		"disabled":                      {[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + nobody, "OTEL_SDK_DISABLED=TRUE"}, false, false},
		"something that only describes": {[]string{"OTEL_SERVICE_NAME=mine", "OTEL_TRACES_SAMPLER=always_on"}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			environ(t, c.variables...)
			before := runtime.NumGoroutine()
			made, err := started(t)
			if err != nil {
				t.Fatal(err)
			}
			on := 0
			for _, signal := range []bool{c.traces, c.metrics} {
				if signal {
					on++
				}
			}
			if (made.Tracer() != nil) != c.traces || len(made.shutdowns) != on {
				t.Errorf("traces %v, %d signals", made.Tracer() != nil, len(made.shutdowns))
			}
			if on == 0 && runtime.NumGoroutine() > before {
				t.Error("something runs")
			}
		})
	}
}

func TestEnvironmentThatCannotBeFollowedIsAnError(t *testing.T) {
	for _, variables := range [][]string{
		{"OTEL_TRACES_EXPORTER=zipkin"},
		{"OTEL_METRICS_EXPORTER=statsd"},
		{"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/json"},
		{"OTEL_METRICS_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_PROTOCOL=thrift"},
		{"OTEL_TRACES_EXPORTER=otlp", "OTEL_PROPAGATORS=tracecontext,morse"},
		{"OTEL_TRACES_EXPORTER=otlp", "OTEL_RESOURCE_ATTRIBUTES=team"},
	} {
		last := variables[len(variables)-1]
		t.Run(last, func(t *testing.T) {
			environ(t, variables...)
			_, err := started(t)
			name, value, _ := strings.Cut(last, "=")
			if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), value) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestExportErrorsAreLoggedOncePerMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		errs := newThrottled(slog.New(slog.NewTextHandler(&b, nil)))
		for range 24 { // two minutes
			errs.Handle(errors.New("no collector"))
			time.Sleep(5 * time.Second)
		}
		if lines := strings.Count(b.String(), "\n"); lines != 2 || !strings.Contains(b.String(), "times=12") {
			t.Errorf("%d lines: %s", lines, b.String())
		}
	})
}

func TestLeveledMapsVerbosity(t *testing.T) {
	for level, want := range map[slog.Level]string{slog.LevelError: "ERROR", 0: "INFO", -1: "WARN", -4: "DEBUG", -8: "DEBUG"} {
		var b bytes.Buffer
		h := leveled{slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug})}
		slog.New(h).With("a", 1).Log(t.Context(), level, "said")
		if !strings.Contains(b.String(), "level="+want+" ") {
			t.Errorf("%d: %s", level, b.String())
		}
	}
	if (leveled{slog.NewTextHandler(&bytes.Buffer{}, nil)}).Enabled(t.Context(), -4) {
		t.Error("what the libraries say about themselves is logged")
	}
}
