package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cbproxy/internal/events"
)

var (
	queueDepthDesc = prometheus.NewDesc("cbproxy_queue_depth",
		"Queued requests waiting for delivery.", []string{"service"}, nil)
	queueAgeDesc = prometheus.NewDesc("cbproxy_queue_oldest_age_seconds",
		"Age of the oldest waiting request in seconds; 0 if none waits.", []string{"service"}, nil)
	queueDeadDesc = prometheus.NewDesc("cbproxy_queue_dead",
		"Dead letters stored.", []string{"service"}, nil)
	queueAcceptedDesc = prometheus.NewDesc("cbproxy_queue_accepted_total",
		"Requests accepted into the queue.", []string{"service"}, nil)
	queueDeliveredDesc = prometheus.NewDesc("cbproxy_queue_delivered_total",
		"Queued requests delivered to the upstream.", []string{"service"}, nil)
	queueRetriedDesc = prometheus.NewDesc("cbproxy_queue_retried_total",
		"Failed deliveries that will be retried.", []string{"service"}, nil)
	queueDiedDesc = prometheus.NewDesc("cbproxy_queue_dead_total",
		"Queued requests that became dead letters.", []string{"service"}, nil)
	queueLostDesc = prometheus.NewDesc("cbproxy_queue_lost_total",
		"Dead letters removed because their limit was exceeded.", []string{"service"}, nil)
	queueTakenOverDesc = prometheus.NewDesc("cbproxy_queue_taken_over_total",
		"Queued requests taken over from instances that are gone.", []string{"service"}, nil)
	queueSurrenderedDesc = prometheus.NewDesc("cbproxy_queue_surrendered_total",
		"Queued requests taken over by another instance while this one was unreachable.", []string{"service"}, nil)
	queueCommitsDesc = prometheus.NewDesc("cbproxy_queue_commits_total",
		"Commits of the queue's files. A commit covers one or more requests and takes two fsyncs.", nil, nil)
)

// queueCollector reads the queues at each scrape.
type queueCollector struct {
	queues func() (byService map[string]events.QueueStatus, commits uint64)
}

func (c *queueCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{queueDepthDesc, queueAgeDesc, queueDeadDesc, queueAcceptedDesc, queueDeliveredDesc, queueRetriedDesc,
		queueDiedDesc, queueLostDesc, queueTakenOverDesc, queueSurrenderedDesc, queueCommitsDesc} {
		descs <- d
	}
}

func (c *queueCollector) Collect(metrics chan<- prometheus.Metric) {
	queues, commits := c.queues()
	metrics <- prometheus.MustNewConstMetric(queueCommitsDesc, prometheus.CounterValue, float64(commits))
	for service, q := range queues {
		gauge := func(d *prometheus.Desc, v float64) {
			metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, service)
		}
		count := func(d *prometheus.Desc, v uint64) {
			metrics <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), service)
		}
		gauge(queueDepthDesc, float64(q.Waiting))
		age := 0.0
		if q.Oldest != nil {
			age = max(time.Since(*q.Oldest).Seconds(), 0)
		}
		gauge(queueAgeDesc, age)
		gauge(queueDeadDesc, float64(q.Dead))
		count(queueAcceptedDesc, q.Accepted)
		count(queueDeliveredDesc, q.Delivered)
		count(queueRetriedDesc, q.Retried)
		count(queueDiedDesc, q.Died)
		count(queueLostDesc, q.Lost)
		count(queueTakenOverDesc, q.TakenOver)
		count(queueSurrenderedDesc, q.Released)
	}
}
