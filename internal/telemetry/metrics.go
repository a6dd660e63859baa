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

var bridged sync.Mutex // held while autoexport has a gatherer's bridge

func (t *Telemetry) startMetrics(ctx context.Context, about *resource.Resource, from prometheus.Gatherer) error {
	bridged.Lock()
	defer bridged.Unlock()
	autoexport.WithFallbackMetricProducer(func(context.Context) (metric.Producer, error) {
		return bridge{prometheusbridge.NewMetricProducer(prometheusbridge.WithGatherer(classic{from}))}, nil
	})
	reader, err := autoexport.NewMetricReader(ctx)
	if err != nil {
		return exporterError(metricsExporter, "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", err)
	}
	provider := metric.NewMeterProvider(metric.WithResource(about), metric.WithReader(reader))
	t.shutdowns = append(t.shutdowns, provider.Shutdown)
	return nil
}

// classic gathers histograms without their native buckets, as far as they have others: the
// bridge would send only those, and without exemplars.
type classic struct{ prometheus.Gatherer }

func (c classic) Gather() ([]*dto.MetricFamily, error) {
	families, err := c.Gatherer.Gather() // made for this call
	for _, family := range families {
		for _, m := range family.Metric {
			if h := m.Histogram; h != nil && len(h.Bucket) > 0 {
				m.Histogram = &dto.Histogram{SampleCount: h.SampleCount, SampleSum: h.SampleSum, Bucket: h.Bucket, CreatedTimestamp: h.CreatedTimestamp}
			}
		}
	}
	return families, err
}

// bridge makes the identifiers of exemplars what OTLP wants, 16 and 8 bytes: the bridge leaves them
// in hexadecimal, and a collector refuses all of an export that holds such a one.
type bridge struct{ metric.Producer }

func (b bridge) Produce(ctx context.Context) ([]metricdata.ScopeMetrics, error) {
	scopes, err := b.Producer.Produce(ctx)
	for _, scope := range scopes {
		for _, m := range scope.Metrics {
			h, ok := m.Data.(metricdata.Histogram[float64])
			if !ok {
				continue
			}
			for _, point := range h.DataPoints {
				for i := range point.Exemplars {
					e := &point.Exemplars[i]
					e.TraceID, e.SpanID = binary(e.TraceID, 16), binary(e.SpanID, 8)
				}
			}
		}
	}
	return scopes, err
}

// binary returns an identifier of size bytes that may stand in hexadecimal; nil if it is none.
func binary(id []byte, size int) []byte {
	if len(id) == 2*size {
		id, _ = hex.AppendDecode(nil, id)
	}
	if len(id) != size {
		return nil
	}
	return id
}
