package app

import (
	"context"
	"errors"
	"log/slog"
	"time"

	queuestrategy "cbproxy/fallbacks/queue"
	"cbproxy/internal/admin"
	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/metrics"
	"cbproxy/internal/queue"
	"cbproxy/internal/queue/disk"
	"cbproxy/proxy"
	"cbproxy/routes"
)

// queues is what waits for its upstream.
type queues struct {
	*queue.Queues
	store  *disk.Queue
	server *proxy.Server // set before anything is delivered
}

// openQueues opens the queues in c's data_dir.
func openQueues(c *routes.Config, keep *keeping, bus *events.Bus, logger *slog.Logger) (*queues, error) {
	kept, setAside, err := disk.Open(c.DataDir)
	if err != nil {
		return nil, dataDirError(c.DataDir, err)
	}
	for _, reason := range setAside {
		logger.Error("queued requests are lost", "reason", reason)
	}
	q := &queues{store: kept}
	config := queue.Config{Store: kept, Sender: q, Bus: bus, Logger: logger, Succeeded: q.succeeded}
	if keep.redis != nil {
		config.Copies, config.Shared = keep.redis.Copies(kept.Origin()), func() bool { return keep.share().Enabled }
	}
	q.Queues = queue.New(config)
	return q, nil
}

// Send implements queue.Sender.
func (q *queues) Send(ctx context.Context, service string, m *queue.Message) (queue.Answer, error) {
	answer, err := q.server.Deliver(ctx, &proxy.Delivery{
		Service: service, Method: m.Method, Host: m.Host, Rest: m.Rest, Query: m.Query, EmptyQuery: m.EmptyQuery, Header: m.Header, Body: m.Body, Suspect: m.Suspect,
	})
	var failed *proxy.DeliveryError
	var deferred *proxy.DeferredError
	switch {
	case errors.As(err, &failed):
		return queue.Answer{}, &queue.Failed{Reason: failed.Reason, Unsent: failed.Unsent, Err: failed.Err}
	case errors.As(err, &deferred):
		return queue.Answer{}, &queue.NotAdmitted{RetryAt: deferred.Until, Reason: err.Error()}
	case errors.Is(err, breaker.ErrOpen), errors.Is(err, breaker.ErrHalfOpenLimit):
		refused := &queue.NotAdmitted{Reason: err.Error()}
		if b := q.server.Breaker(service); b != nil {
			refused.RetryAt = b.RetryAt()
		}
		return queue.Answer{}, refused
	case errors.Is(err, proxy.ErrNoService):
		return queue.Answer{}, &queue.NotAdmitted{RetryAt: time.Now().Add(time.Minute), Reason: err.Error()} // an edit may bring it back sooner
	}
	return queue.Answer{Status: answer.Status, RetryAfter: answer.RetryAfter}, err
}

func (q *queues) succeeded(service string) time.Time { return q.server.Succeeded(service) }

// close writes what is not written yet. It is for when nothing is accepted or delivered any more.
func (q *queues) close(logger *slog.Logger) {
	if err := q.store.Close(); err != nil {
		logger.Error("close the queue", "error", err)
	}
}

// strategyHost is what fallback strategies use of the process.
type strategyHost struct{ queues *queue.Queues }

// Queues implements queuestrategy.Host.
func (h strategyHost) Queues() *queue.Queues { return h.queues }

// waitsInMemory warns where a 202 is no promise.
func waitsInMemory(c *routes.Config, logger *slog.Logger) {
	if c.DataDir != "" {
		return
	}
	for name, r := range c.Routes {
		if f := c.Fallbacks[r.Fallback]; f != nil && r.FallbackEnabled && f.Strategies["queue"] != nil {
			logger.Warn("queued requests are kept in memory, as data_dir is empty, and are lost when the process ends", "service", name)
		}
	}
}

// largestQueuedBody returns the largest max_body of c's queues, in bytes.
func largestQueuedBody(c *routes.Config) (largest int64) {
	for _, f := range c.Fallbacks {
		if o, ok := f.Strategies["queue"].(*queuestrategy.Options); ok {
			largest = max(largest, int64(o.MaxBody))
		}
	}
	return largest
}

// metrics returns what a scrape wants to know of the queues of all services.
func (q *queues) metrics() (map[string]metrics.Queue, uint64) {
	all := map[string]metrics.Queue{}
	for service, s := range q.states() {
		m := metrics.Queue{
			Depth: s.Waiting, Dead: s.Dead,
			Accepted: s.Accepted, Delivered: s.Delivered, Retried: s.Retried, Died: s.Died, Lost: s.Lost, TakenOver: s.TakenOver, Surrendered: s.Surrendered,
		}
		if !s.Oldest.IsZero() {
			m.OldestAge = max(time.Since(s.Oldest).Seconds(), 0)
		}
		all[service] = m
	}
	return all, q.Commits()
}

// states returns the queues of the services there are, and of those that have left something.
func (q *queues) states() map[string]queue.Status {
	all := map[string]queue.Status{}
	for service := range q.server.Breakers() {
		all[service] = q.Queues.Status(service)
	}
	for _, service := range q.Services() {
		if _, ok := all[service]; ok {
			continue
		}
		if s := q.Queues.Status(service); s.Waiting+s.Dead > 0 {
			all[service] = s
		}
	}
	return all
}

// queueView shows the queues to the admin plane.
type queueView struct{ *queues }

// Status implements admin.Queues.
func (v queueView) Status() map[string]admin.Queue {
	all := map[string]admin.Queue{}
	for service, s := range v.states() {
		all[service] = admin.Queue{
			Waiting: s.Waiting, Dead: s.Dead, Oldest: admin.TimeOrNil(s.Oldest), NextAttempt: admin.TimeOrNil(s.NextAttempt), LastError: s.LastError,
			Accepted: s.Accepted, Delivered: s.Delivered, Retried: s.Retried, Died: s.Died, Lost: s.Lost, TakenOver: s.TakenOver, Surrendered: s.Surrendered,
		}
	}
	return all
}

// List implements admin.Queues.
func (v queueView) List(service, state, after string, limit int) ([]admin.QueuedRequest, error) {
	items, err := v.Queues.List(service, state, after, limit)
	requests := make([]admin.QueuedRequest, len(items))
	for i := range items {
		requests[i] = admin.QueuedRequest(items[i])
	}
	return requests, err
}

// Retry implements admin.Queues.
func (v queueView) Retry(ctx context.Context, id string) (admin.QueuedRequest, error) {
	item, err := v.Queues.Retry(ctx, id)
	return admin.QueuedRequest(item), queueError(err)
}

// Drop implements admin.Queues.
func (v queueView) Drop(id string) (admin.QueuedRequest, error) {
	item, err := v.Queues.Drop(id)
	return admin.QueuedRequest(item), queueError(err)
}

func queueError(err error) error {
	switch {
	case errors.Is(err, queue.ErrUnknown):
		return admin.ErrUnknownRequest
	case errors.Is(err, queue.ErrInFlight):
		return admin.ErrInFlight
	}
	return err
}
