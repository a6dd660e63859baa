package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"cbproxy/internal/events"
)

// Fallback is the state of one service's fallback.
type Fallback struct {
	// Cache has the counters of the cache; all zero without one.
	Cache Cache
	// Upstream is the state of the fallback upstream's breaker, if HasUpstream.
	Upstream    events.State
	HasUpstream bool
}

// Cache has the counters of one service's cache.
type Cache struct {
	Hits, Misses, Stored, Evicted uint64
	Entries                       int
	Bytes                         int64
}

var (
	cacheHitsDesc = prometheus.NewDesc("cbproxy_cache_hits_total",
		"Fallback requests answered from the cache.", []string{"service"}, nil)
	cacheMissesDesc = prometheus.NewDesc("cbproxy_cache_misses_total",
		"Fallback requests that the cache could not answer.", []string{"service"}, nil)
	cacheStoredDesc = prometheus.NewDesc("cbproxy_cache_stored_total",
		"Responses stored in the cache.", []string{"service"}, nil)
	cacheEvictedDesc = prometheus.NewDesc("cbproxy_cache_evicted_total",
		"Responses evicted from the cache to free memory.", []string{"service"}, nil)
	cacheEntriesDesc = prometheus.NewDesc("cbproxy_cache_entries",
		"Responses in the cache.", []string{"service"}, nil)
	cacheBytesDesc = prometheus.NewDesc("cbproxy_cache_bytes",
		"Approximate cache memory in bytes.", []string{"service"}, nil)
	fallbackUpstreamDesc = prometheus.NewDesc("cbproxy_fallback_upstream_state",
		"State of the fallback upstream's breaker: 0 closed, 1 open, 2 half-open; absent without such an upstream.", []string{"service"}, nil)
)

// fallbackCollector reads the fallbacks at each scrape.
type fallbackCollector struct {
	fallbacks func() map[string]Fallback
}

func (c *fallbackCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{cacheHitsDesc, cacheMissesDesc, cacheStoredDesc, cacheEvictedDesc, cacheEntriesDesc, cacheBytesDesc, fallbackUpstreamDesc} {
		descs <- d
	}
}

func (c *fallbackCollector) Collect(metrics chan<- prometheus.Metric) {
	for service, f := range c.fallbacks() {
		add := func(d *prometheus.Desc, kind prometheus.ValueType, v float64) {
			metrics <- prometheus.MustNewConstMetric(d, kind, v, service)
		}
		add(cacheHitsDesc, prometheus.CounterValue, float64(f.Cache.Hits))
		add(cacheMissesDesc, prometheus.CounterValue, float64(f.Cache.Misses))
		add(cacheStoredDesc, prometheus.CounterValue, float64(f.Cache.Stored))
		add(cacheEvictedDesc, prometheus.CounterValue, float64(f.Cache.Evicted))
		add(cacheEntriesDesc, prometheus.GaugeValue, float64(f.Cache.Entries))
		add(cacheBytesDesc, prometheus.GaugeValue, float64(f.Cache.Bytes))
		if f.HasUpstream {
			add(fallbackUpstreamDesc, prometheus.GaugeValue, float64(f.Upstream))
		}
	}
}
