package telemetry

import (
	"context"
	"encoding/hex"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	prometheusbridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
)

// producerMu serializes the use of autoexport's fallback metric producer, which is a global setting.
var producerMu sync.Mutex

func (t *Telemetry) startMetrics(ctx context.Context, res *resource.Resource, gatherer prometheus.Gatherer) error {
	producerMu.Lock()
	defer producerMu.Unlock()
	autoexport.WithFallbackMetricProducer(func(context.Context) (metric.Producer, error) {
		return exemplarIDs{prometheusbridge.NewMetricProducer(prometheusbridge.WithGatherer(classicHistograms{gatherer}))}, nil
	})
	reader, err := autoexport.NewMetricReader(ctx)
	if err != nil {
		return exporterError(metricsExporter, "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", err)
	}
	provider := metric.NewMeterProvider(metric.WithResource(res), metric.WithReader(reader))
	t.shutdowns = append(t.shutdowns, provider.Shutdown)
	return nil
}

// classicHistograms removes the native buckets of histograms that also have classic ones: the Prometheus bridge would export
// only the native buckets, and without exemplars.
type classicHistograms struct{ prometheus.Gatherer }

func (c classicHistograms) Gather() ([]*dto.MetricFamily, error) {
	families, err := c.Gatherer.Gather() // a copy that may be modified
	for _, family := range families {
		for _, m := range family.Metric {
			if h := m.Histogram; h != nil && len(h.Bucket) > 0 {
				m.Histogram = &dto.Histogram{SampleCount: h.SampleCount, SampleSum: h.SampleSum, Bucket: h.Bucket, CreatedTimestamp: h.CreatedTimestamp}
			}
		}
	}
	return families, err
}

// exemplarIDs converts the trace and span IDs of exemplars to the 16 and 8 bytes that OTLP requires. The Prometheus bridge
// leaves them in hexadecimal, and a collector rejects a whole export that contains one.
type exemplarIDs struct{ metric.Producer }

func (e exemplarIDs) Produce(ctx context.Context) ([]metricdata.ScopeMetrics, error) {
	scopes, err := e.Producer.Produce(ctx)
	for _, scope := range scopes {
		for _, m := range scope.Metrics {
			h, ok := m.Data.(metricdata.Histogram[float64])
			if !ok {
				continue
			}
			for _, point := range h.DataPoints {
				for i := range point.Exemplars {
					e := &point.Exemplars[i]
					e.TraceID, e.SpanID = decodeID(e.TraceID, 16), decodeID(e.SpanID, 8)
				}
			}
		}
	}
	return scopes, err
}

// decodeID returns an ID of size bytes, which may be given in hexadecimal, or nil if it is invalid.
func decodeID(id []byte, size int) []byte {
	if len(id) == 2*size {
		id, _ = hex.AppendDecode(nil, id)
	}
	if len(id) != size {
		return nil
	}
	return id
}
