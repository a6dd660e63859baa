// Package telemetry exports traces and metrics as OpenTelemetry's environment variables (OTEL_*) configure, and creates the
// spans of requests by the semantic conventions for HTTP. Without these variables it does nothing.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/contrib/propagators/autoprop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"cbproxy/internal/events"
)

// Config is what Start needs. All fields are required.
type Config struct {
	// Metrics are the metrics to export.
	Metrics prometheus.Gatherer
	// Version is the build's, Instance the unique name of this process.
	Version, Instance string
	// Logger logs errors of the exporters.
	Logger *slog.Logger
}

// Telemetry exports traces and metrics. It is safe for concurrent use.
type Telemetry struct {
	tracer    *tracer // nil if no traces are exported
	shutdowns []func(context.Context) error
}

// The variables that enable one signal. OTEL_EXPORTER_OTLP_ENDPOINT enables both.
const (
	tracesExporter  = "OTEL_TRACES_EXPORTER"
	metricsExporter = "OTEL_METRICS_EXPORTER"
	tracesEndpoint  = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	metricsEndpoint = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
)

// Start starts the exports that the environment configures. It changes the global settings of the OpenTelemetry libraries.
// The error names the invalid variable.
func Start(ctx context.Context, c Config) (*Telemetry, error) {
	t := new(Telemetry)
	traces, metrics := enabled(tracesExporter, tracesEndpoint), enabled(metricsExporter, metricsEndpoint)
	if !traces && !metrics {
		return t, nil
	}
	redirectLogs(c.Logger)
	res, err := newResource(ctx, c)
	if err != nil {
		return nil, err
	}
	if traces {
		err = t.startTraces(ctx, res)
	}
	if err == nil && metrics {
		err = t.startMetrics(ctx, res, c.Metrics)
	}
	if err != nil {
		_ = t.Close(ctx) // the first error is the one to report
		return nil, err
	}
	c.Logger.Info("OpenTelemetry export enabled", "traces", traces, "metrics", metrics)
	return t, nil
}

// enabled reports whether a signal is exported: it has an exporter other than none, or, if no exporter is named, an endpoint
// is set. The specification's default, an endpoint on localhost, is not used, so that export is off by default.
func enabled(exporter, endpoint string) bool {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	switch name := os.Getenv(exporter); name {
	case "":
		return os.Getenv(endpoint) != "" || os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != ""
	default:
		return name != "none"
	}
}

// newResource returns the resource of traces and metrics. The environment takes precedence.
func newResource(ctx context.Context, c Config) (*resource.Resource, error) {
	r, err := resource.New(ctx,
		resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(semconv.ServiceName("cbproxy"), semconv.ServiceVersion(c.Version), semconv.ServiceInstanceID(c.Instance)),
		resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES must be a list of key=value with commas between them, got %q: %w", os.Getenv("OTEL_RESOURCE_ATTRIBUTES"), err)
	}
	return r, nil
}

func (t *Telemetry) startTraces(ctx context.Context, res *resource.Resource) error {
	propagator, err := propagators()
	if err != nil {
		return err
	}
	exporter, err := autoexport.NewSpanExporter(ctx)
	if err != nil {
		return exporterError(tracesExporter, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", err)
	}
	provider := trace.NewTracerProvider(trace.WithResource(res), trace.WithBatcher(exporter))
	t.shutdowns = append(t.shutdowns, provider.Shutdown)
	t.tracer = newTracer(provider, propagator)
	return nil
}

func propagators() (propagation.TextMapPropagator, error) {
	names := os.Getenv("OTEL_PROPAGATORS")
	if names == "" {
		return autoprop.NewTextMapPropagator(), nil
	}
	p, err := autoprop.TextMapPropagator(strings.Split(names, ",")...)
	if err != nil {
		return nil, fmt.Errorf("OTEL_PROPAGATORS must be some of tracecontext, baggage, b3, b3multi, jaeger, xray and ottrace with commas between them, or none; got %q: %w", names, err)
	}
	return p, nil
}

func exporterError(exporter, protocol string, err error) error {
	return fmt.Errorf("set up OpenTelemetry from %s=%q, %s=%q and OTEL_EXPORTER_OTLP_PROTOCOL=%q: %w",
		exporter, os.Getenv(exporter), protocol, os.Getenv(protocol), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), err)
}

// Tracer returns the tracer that creates the spans of requests, or nil if no traces are exported.
func (t *Telemetry) Tracer() events.Tracer {
	if t.tracer == nil {
		return nil
	}
	return t.tracer
}

// CloseTimeout limits how long Close waits for pending exports.
const CloseTimeout = 3 * time.Second

// Close exports pending data, within CloseTimeout. No span may be started after it is called.
func (t *Telemetry) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, CloseTimeout)
	defer cancel()
	errs := make([]error, len(t.shutdowns))
	var wg sync.WaitGroup
	for i, shutdown := range t.shutdowns {
		wg.Go(func() { errs[i] = shutdown(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
