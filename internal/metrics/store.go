package metrics

import "github.com/prometheus/client_golang/prometheus"

var (
	redisUpDesc = prometheus.NewDesc("cbproxy_redis_up",
		"1 if Redis commands succeed, 0 otherwise; absent if no Redis is configured.", nil, nil)
	redisOperationsDesc = prometheus.NewDesc("cbproxy_redis_operations_total",
		"Redis commands issued.", nil, nil)
	redisErrorsDesc = prometheus.NewDesc("cbproxy_redis_errors_total",
		"Redis commands that failed.", nil, nil)
	storeErrorsDesc = prometheus.NewDesc("cbproxy_store_errors_total",
		"Failed writes to this instance's own store; they are retried.", nil, nil)
)

// storeCollector reads the condition of the stores at each scrape.
type storeCollector struct {
	redis  func() (Redis, bool)
	errors func() uint64
}

func (c *storeCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- redisUpDesc
	descs <- redisOperationsDesc
	descs <- redisErrorsDesc
	descs <- storeErrorsDesc
}

func (c *storeCollector) Collect(metrics chan<- prometheus.Metric) {
	metrics <- prometheus.MustNewConstMetric(storeErrorsDesc, prometheus.CounterValue, float64(c.errors()))
	r, configured := c.redis()
	if !configured {
		return
	}
	metrics <- prometheus.MustNewConstMetric(redisUpDesc, prometheus.GaugeValue, boolToFloat(r.Up))
	metrics <- prometheus.MustNewConstMetric(redisOperationsDesc, prometheus.CounterValue, float64(r.Operations))
	metrics <- prometheus.MustNewConstMetric(redisErrorsDesc, prometheus.CounterValue, float64(r.Errors))
}

// boolToFloat returns 1 for true and 0 for false.
func boolToFloat(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
