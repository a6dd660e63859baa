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

// setOTelEnv clears all OTEL_ variables of the environment and sets the given ones, each "NAME=value".
func setOTelEnv(t *testing.T, variables ...string) {
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

// start calls Start with a test configuration and closes the result when the test ends.
func start(t *testing.T) (*Telemetry, error) {
	t.Helper()
	started, err := Start(t.Context(), Config{Metrics: prometheus.NewRegistry(), Version: "1", Instance: "one", Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		t.Cleanup(func() { _ = started.Close(t.Context()) })
	}
	return started, err
}

func TestEnvironmentEnablesSignals(t *testing.T) {
	const unusedEndpoint = "http://127.0.0.1:1"
	for name, c := range map[string]struct {
		variables       []string
		traces, metrics bool
	}{
		"no variable":                       {nil, false, false},
		"an endpoint":                       {[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + unusedEndpoint}, true, true},
		"a traces endpoint":                 {[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=" + unusedEndpoint}, true, false},
		"a metrics endpoint":                {[]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=" + unusedEndpoint}, false, true},
		"a traces exporter":                 {[]string{"OTEL_TRACES_EXPORTER=otlp"}, true, false},
		"gRPC":                              {[]string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, true, false},
		"an endpoint, metrics disabled":     {[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + unusedEndpoint, "OTEL_METRICS_EXPORTER=none"}, true, false},
		"disabled":                          {[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + unusedEndpoint, "OTEL_SDK_DISABLED=TRUE"}, false, false},
		"a service name and a sampler only": {[]string{"OTEL_SERVICE_NAME=mine", "OTEL_TRACES_SAMPLER=always_on"}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			setOTelEnv(t, c.variables...)
			before := runtime.NumGoroutine()
			started, err := start(t)
			if err != nil {
				t.Fatal(err)
			}
			on := 0
			for _, signal := range []bool{c.traces, c.metrics} {
				if signal {
					on++
				}
			}
			if (started.Tracer() != nil) != c.traces || len(started.shutdowns) != on {
				t.Errorf("traces %v, %d signals", started.Tracer() != nil, len(started.shutdowns))
			}
			if on == 0 && runtime.NumGoroutine() > before {
				t.Error("goroutines were started although nothing is exported")
			}
		})
	}
}

func TestStartRejectsInvalidEnvironment(t *testing.T) {
	for _, variables := range [][]string{
		{"OTEL_TRACES_EXPORTER=zipkin"},
		{"OTEL_METRICS_EXPORTER=statsd"},
		{"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/json"},
		{"OTEL_METRICS_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_PROTOCOL=thrift"},
		{"OTEL_TRACES_EXPORTER=otlp", "OTEL_PROPAGATORS=tracecontext,morse"},
		{"OTEL_TRACES_EXPORTER=otlp", "OTEL_RESOURCE_ATTRIBUTES=team"},
	} {
		invalid := variables[len(variables)-1]
		t.Run(invalid, func(t *testing.T) {
			setOTelEnv(t, variables...)
			_, err := start(t)
			name, value, _ := strings.Cut(invalid, "=")
			if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), value) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestExportErrorsAreLoggedOncePerMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		errs := newThrottledErrors(slog.New(slog.NewTextHandler(&b, nil)))
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
		h := levelHandler{slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug})}
		slog.New(h).With("a", 1).Log(t.Context(), level, "message")
		if !strings.Contains(b.String(), "level="+want+" ") {
			t.Errorf("%d: %s", level, b.String())
		}
	}
	if (levelHandler{slog.NewTextHandler(&bytes.Buffer{}, nil)}).Enabled(t.Context(), -4) {
		t.Error("debug messages of the libraries are logged")
	}
}
