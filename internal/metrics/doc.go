// Package metrics defines all Prometheus metrics: counters that are updated when a request ends, and collectors that read
// the other components at each scrape.
package metrics
