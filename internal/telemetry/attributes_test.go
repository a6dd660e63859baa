package telemetry

import (
	"context"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"cbproxy/internal/events"
)

// encoder is an OTLP client that encodes spans and sends nothing.
type encoder struct {
	size int   // of the last message, in bytes
	err  error // of the last message
}

func (*encoder) Start(context.Context) error { return nil }
func (*encoder) Stop(context.Context) error  { return nil }
func (e *encoder) UploadTraces(_ context.Context, spans []*tracepb.ResourceSpans) error {
	for _, s := range spans {
		content, err := proto.Marshal(s)
		e.size, e.err = len(content), err
	}
	return nil
}

// FuzzSpans checks that a span can be encoded and has a bounded size, whatever a client or an upstream sends. An exporter
// drops the whole batch of a span that cannot be encoded.
func FuzzSpans(f *testing.F) {
	const long = 100_000
	f.Add("GET", "/svc", "a:80", "HTTP/1.1", "127.0.0.1:1", "agent", "refused", "00-"+clientTrace+"-"+clientSpan+"-01", 200)
	f.Add("\xff", "/\xff", "[::1", "\xff/1", "\xff", "\xff\x00", "\xff", "\xff", 99999)
	f.Add(strings.Repeat("M", long), strings.Repeat("/", long), strings.Repeat("h", long), strings.Repeat("P", long), strings.Repeat("c", long),
		strings.Repeat("\xff", long), strings.Repeat("\u2028", long), strings.Repeat("-", long), -1)
	f.Add("get", "", "[fe80::1%25eth0]:0", "HTTP/2.0", "@", "", "", "", 0)
	f.Add("GET", "/svc", "a:80", "HTTP/1.1", "127.0.0.1:1", "agent", "refused", "0a-"+clientTrace+"-"+clientSpan+"-20", 200)
	f.Fuzz(func(t *testing.T, method, path, host, protocol, client, agent, detail, parent string, status int) {
		encoded, spans := new(encoder), tracetest.NewSpanRecorder()
		exporter := otlptrace.NewUnstarted(encoded)
		// Without AlwaysSample, a parent in a future version of traceparent could turn off recording.
		provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans), sdktrace.WithSampler(sdktrace.AlwaysSample()))
		tracer := newTracer(provider, propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
		a := &events.AccessRecord{Arrived: time.Now(), Method: method, Path: path, Host: host, Protocol: protocol, Client: client, UserAgent: agent}
		header := map[string][]string{"Traceparent": {parent}, "Tracestate": {detail}, "Baggage": {agent}}
		span := tracer.Request(a, header)
		attempt := span.Attempt(&events.Attempt{Method: method, URL: path, Host: host, Scheme: "http", Start: time.Now()}, header)
		failure := &events.Failure{Type: events.ErrorConnect, Detail: detail}
		attempt.End(&events.AttemptEnd{Time: time.Now(), Status: status, Protocol: protocol, Peer: client, Failure: failure})
		a.Service, a.Prefix, a.Failure, a.Status = "svc", "/svc", failure, status
		span.End(a)
		for _, s := range spans.Ended() {
			for _, attr := range s.Attributes() {
				if attr.Value.Type() == attribute.STRING && !utf8.ValidString(attr.Value.AsString()) {
					t.Errorf("%s=%q", attr.Key, attr.Value.AsString())
				}
			}
		}
		if err := exporter.ExportSpans(context.Background(), spans.Ended()); err != nil || encoded.err != nil || encoded.size == 0 {
			t.Fatalf("%v, %v, %d bytes", err, encoded.err, encoded.size)
		}
		if limit := 20 << 10; encoded.size > limit {
			t.Errorf("two spans take %d bytes, want at most %d", encoded.size, limit)
		}
		if p := header["Traceparent"]; len(p) != 1 || len(p[0]) != len("00-"+clientTrace+"-"+clientSpan+"-01") {
			t.Errorf("traceparent %q", p)
		}
	})
}
