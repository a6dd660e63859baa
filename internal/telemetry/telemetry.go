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

// Telemetry exports traces and metrics. Its methods are safe for concurrent use.
type Telemetry struct {
	tracer    *tracer // nil: no traces are exported
	shutdowns []func(context.Context) error
}

// The variables that switch a signal on, beside OTEL_EXPORTER_OTLP_ENDPOINT, which is for
// both.
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
	report(c.Logger)
	about, err := describe(ctx, c)
	if err != nil {
		return nil, err
	}
	if traces {
		err = t.startTraces(ctx, about)
	}
	if err == nil && metrics {
		err = t.startMetrics(ctx, about, c.Metrics)
	}
	if err != nil {
		_ = t.Close(ctx) // the first error is the one to report
		return nil, err
	}
	c.Logger.Info("OpenTelemetry is on", "traces", traces, "metrics", metrics)
	return t, nil
}

// enabled reports whether a signal is to be exported: by its exporter's name, or because there
// is an endpoint. The standard's default, an endpoint on localhost, would not be "off".
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

// describe returns the resource of traces and metrics. The environment takes precedence.
func describe(ctx context.Context, c Config) (*resource.Resource, error) {
	r, err := resource.New(ctx,
		resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(semconv.ServiceName("cbproxy"), semconv.ServiceVersion(c.Version), semconv.ServiceInstanceID(c.Instance)),
		resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES must be a list of key=value with commas between them, got %q: %w", os.Getenv("OTEL_RESOURCE_ATTRIBUTES"), err)
	}
	return r, nil
}

func (t *Telemetry) startTraces(ctx context.Context, about *resource.Resource) error {
	propagator, err := propagators()
	if err != nil {
		return err
	}
	exporter, err := autoexport.NewSpanExporter(ctx)
	if err != nil {
		return exporterError(tracesExporter, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", err)
	}
	provider := trace.NewTracerProvider(trace.WithResource(about), trace.WithBatcher(exporter))
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
	return fmt.Errorf("OpenTelemetry can't be set up from %s=%q, %s=%q and OTEL_EXPORTER_OTLP_PROTOCOL=%q: %w",
		exporter, os.Getenv(exporter), protocol, os.Getenv(protocol), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), err)
}

// Tracer makes the spans of requests; nil if no traces are exported.
func (t *Telemetry) Tracer() events.Tracer {
	if t.tracer == nil {
		return nil
	}
	return t.tracer
}

// CloseTimeout limits how long Close waits for pending exports.
const CloseTimeout = 3 * time.Second

// Close exports what is pending, within CloseTimeout. No span may be started any more.
func (t *Telemetry) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, CloseTimeout)
	defer cancel()
	faults := make([]error, len(t.shutdowns))
	var all sync.WaitGroup
	for i, shutdown := range t.shutdowns {
		all.Go(func() { faults[i] = shutdown(ctx) })
	}
	all.Wait()
	return errors.Join(faults...)
}
