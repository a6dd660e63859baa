package telemetry

import (
	"context"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"cbproxy/internal/events"
)

// tracer implements events.Tracer. Attributes are only set on spans that are recorded: no sampler that the environment can
// select reads them.
type tracer struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
	w3c        bool // the propagator uses the W3C Trace Context fields
}

func newTracer(provider trace.TracerProvider, p propagation.TextMapPropagator) *tracer {
	return &tracer{
		tracer:     provider.Tracer("cbproxy", trace.WithSchemaURL(semconv.SchemaURL)),
		propagator: p,
		w3c:        slices.Contains(p.Fields(), "tracestate"),
	}
}

// extract returns a context with the trace context in header.
func (t *tracer) extract(header map[string][]string) context.Context {
	return t.propagator.Extract(context.Background(), propagation.HeaderCarrier(header))
}

// inject writes the trace context of ctx to header.
func (t *tracer) inject(ctx context.Context, header map[string][]string) {
	if t.w3c {
		delete(header, "Tracestate") // it belongs to the traceparent that is replaced; ctx has a valid one
	}
	t.propagator.Inject(ctx, propagation.HeaderCarrier(header))
}

// Request implements events.Tracer.
func (t *tracer) Request(a *events.AccessRecord, header map[string][]string) events.RequestSpan {
	ctx, span := t.tracer.Start(t.extract(header), methodName(a.Method), trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(a.Arrived))
	if span.IsRecording() {
		span.SetAttributes(requestAttributes(a)...)
	}
	t.inject(ctx, header)
	return &requestSpan{t, ctx, span}
}

// Delivery implements events.Tracer.
func (t *tracer) Delivery(a *events.Attempt, header map[string][]string) events.AttemptSpan {
	return t.attempt(t.extract(header), a, header, deliveryKey.Bool(true))
}

func (t *tracer) attempt(ctx context.Context, a *events.Attempt, header map[string][]string, more ...attribute.KeyValue) events.AttemptSpan {
	ctx, span := t.tracer.Start(ctx, methodName(a.Method), trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(a.Start))
	if span.IsRecording() {
		span.SetAttributes(attemptAttributes(a, more...)...)
	}
	t.inject(ctx, header)
	return attemptSpan{span, a.Hedge}
}

// requestSpan implements events.RequestSpan.
type requestSpan struct {
	tracer *tracer
	ctx    context.Context // holds span
	span   trace.Span
}

func (s *requestSpan) IDs() (traceID, spanID string) {
	if c := s.span.SpanContext(); c.IsSampled() {
		return c.TraceID().String(), c.SpanID().String()
	}
	return "", ""
}

func (s *requestSpan) Attempt(a *events.Attempt, header map[string][]string) events.AttemptSpan {
	s.event("cbproxy.breaker.decision", decisionKey.String("admitted"), stateKey.String(a.State.String()))
	return s.tracer.attempt(s.ctx, a, header)
}

func (s *requestSpan) Retry(wait time.Duration) {
	s.event("cbproxy.retry", waitKey.Float64(wait.Seconds()))
}

func (s *requestSpan) Rejected(state events.State, reason events.Reason) {
	name := "cbproxy.breaker.decision"
	switch reason {
	case events.ReasonOpen, events.ReasonHalfOpenLimit, events.ReasonThrottled, events.ReasonRecovering:
	default:
		name = "cbproxy.shed" // a limit rejects the request, not the breaker
	}
	s.event(name, decisionKey.String("rejected"), stateKey.String(state.String()), reasonKey.String(string(reason)))
}

func (s *requestSpan) Fallback(strategy string, reason events.Reason) {
	s.event("cbproxy.fallback", strategyKey.String(strategy), fallbackReasonKey.String(string(reason)))
}

func (s *requestSpan) event(name string, attributes ...attribute.KeyValue) {
	if s.span.IsRecording() {
		s.span.AddEvent(name, trace.WithAttributes(attributes...))
	}
}

func (s *requestSpan) End(a *events.AccessRecord) {
	defer s.span.End()
	if !s.span.IsRecording() {
		return
	}
	if a.Prefix != "" {
		s.span.SetName(methodName(a.Method) + " " + a.Prefix)
	}
	s.span.SetAttributes(responseAttributes(a)...)
	if errorType := requestErrorType(a); errorType != "" {
		s.span.SetAttributes(semconv.ErrorTypeKey.String(errorType))
		s.span.SetStatus(codes.Error, "")
	}
}

// attemptSpan implements events.AttemptSpan.
type attemptSpan struct {
	span  trace.Span
	hedge bool // events.Attempt.Hedge
}

func (s attemptSpan) End(e *events.AttemptEnd) {
	if s.span.IsRecording() {
		s.span.SetAttributes(attemptEndAttributes(e, s.hedge)...)
		if errorType := attemptErrorType(e); errorType != "" {
			s.span.SetAttributes(semconv.ErrorTypeKey.String(errorType))
			s.span.SetStatus(codes.Error, failureDetail(e.Failure))
		}
	}
	s.span.End(trace.WithTimestamp(e.Time))
}
