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
	"cbproxy/internal/queue"
	"cbproxy/internal/queue/disk"
	"cbproxy/internal/service"
	"cbproxy/proxy"
	"cbproxy/routes"
)

// queueService holds the queues of all services and the files that they are stored in.
type queueService struct {
	*queue.Queues
	files    *disk.Store
	breakers *breaker.Registry
}

// openQueues opens the queues in dataDir, or in memory if it is empty.
func openQueues(dataDir string, state *stateStore, bus *events.Bus, logger *slog.Logger) (*queueService, error) {
	files, quarantined, err := disk.Open(dataDir)
	if err != nil {
		return nil, dataDirError(dataDir, err)
	}
	for _, reason := range quarantined {
		logger.Error("damaged queue file renamed, its requests are not delivered from this disk", "reason", reason)
	}
	config := queue.Config{Store: files, Bus: bus, Logger: logger}
	if state.redis != nil {
		config.Copies, config.CopiesEnabled = state.redis.Copies(files.ID()), func() bool { return state.share().Enabled }
	}
	return &queueService{Queues: queue.New(config), files: files, breakers: state.breakers}, nil
}

// queueSender delivers queued requests through the proxy. It implements queue.Sender.
type queueSender struct {
	server   *proxy.Server
	breakers *breaker.Registry
}

// Send implements queue.Sender.
func (q *queueSender) Send(ctx context.Context, name string, m *queue.Message) (queue.Answer, error) {
	answer, err := q.server.Deliver(ctx, &service.Delivery{
		Service: name, Method: m.Method, Host: m.Host, UpstreamPath: m.Rest, Query: m.Query, EmptyQuery: m.EmptyQuery, Header: m.Header, Body: m.Body, SuspectedPoison: m.SuspectedPoison,
	})
	var failed *service.DeliveryError
	var deferred *service.DeferredError
	switch {
	case errors.As(err, &failed):
		return queue.Answer{}, &queue.Failed{Reason: failed.Reason, NotCausedByMessage: failed.NotCausedByRequest, Unsendable: failed.Unsendable, Err: failed.Err}
	case errors.As(err, &deferred):
		return queue.Answer{}, &queue.NotAdmitted{RetryAt: deferred.Until, Reason: err.Error()}
	case errors.Is(err, breaker.ErrThrottled), errors.Is(err, breaker.ErrRecovering):
		return queue.Answer{}, &queue.NotAdmitted{RetryAt: time.Now().Add(retryRejected), Reason: err.Error()} // clients go first
	case errors.Is(err, breaker.ErrOpen), errors.Is(err, breaker.ErrHalfOpenLimit):
		notAdmitted := &queue.NotAdmitted{Reason: err.Error()}
		if b := q.breakers.Get(name); b != nil {
			notAdmitted.RetryAt = b.RetryAt()
		}
		return queue.Answer{}, notAdmitted
	case errors.Is(err, service.ErrNoService):
		return queue.Answer{}, &queue.NotAdmitted{RetryAt: time.Now().Add(time.Minute), Reason: err.Error()} // a reload that adds the service ends the wait
	}
	return queue.Answer{Status: answer.Status, RetryAfter: answer.RetryAfter, Detail: answer.Detail}, err
}

// retryRejected is the time until a delivery is tried again that the closed breaker has rejected as one of a share of calls.
const retryRejected = time.Second

// LastSuccess implements queue.Sender.
func (q *queueSender) LastSuccess(name string) time.Time { return q.server.LastSuccess(name) }

// close flushes and closes the files. All requests and deliveries must have ended.
func (q *queueService) close(logger *slog.Logger) {
	if err := q.files.Close(); err != nil {
		logger.Error("cannot close the queue", "error", err)
	}
}

// strategyProvider gives fallback strategies access to the queues. It implements queuestrategy.Provider.
type strategyProvider struct{ queues *queue.Queues }

// Queues implements queuestrategy.Provider.
func (p strategyProvider) Queues() *queue.Queues { return p.queues }

// warnVolatileQueue warns about each queue that loses accepted requests when the process ends.
func warnVolatileQueue(c *routes.Config, logger *slog.Logger) {
	if c.DataDir != "" {
		return
	}
	for name := range c.Routes {
		if hasQueue(c, name) {
			logger.Warn("data_dir is empty, queued requests are lost when the process ends", "service", name)
		}
	}
}

// hasQueue reports whether requests of a service can be queued.
func hasQueue(c *routes.Config, service string) bool {
	r := c.Routes[service]
	if r == nil || !r.FallbackEnabled {
		return false
	}
	f := c.Fallbacks[r.Fallback]
	return f != nil && f.Strategies["queue"] != nil
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

// metrics returns the queues by service and the number of commits of their files, for a scrape.
func (q *queueService) metrics() (map[string]events.QueueStatus, uint64) {
	return q.states(), q.Commits()
}

// states returns the queues of all configured services, and those of removed services that are not empty.
func (q *queueService) states() map[string]events.QueueStatus {
	all := map[string]events.QueueStatus{}
	for service := range q.breakers.All() {
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

// queueView implements admin.Queues.
type queueView struct{ *queueService }

// Status implements admin.Queues.
func (v queueView) Status() map[string]events.QueueStatus { return v.states() }

// Retry implements admin.Queues.
func (v queueView) Retry(ctx context.Context, id string) (events.QueuedRequest, error) {
	item, err := v.Queues.Retry(ctx, id)
	return item, queueError(err)
}

// Drop implements admin.Queues.
func (v queueView) Drop(id string) (events.QueuedRequest, error) {
	item, err := v.Queues.Drop(id)
	return item, queueError(err)
}

// queueError converts an error of package queue to that of package admin.
func queueError(err error) error {
	switch {
	case errors.Is(err, queue.ErrUnknown):
		return admin.ErrUnknownRequest
	case errors.Is(err, queue.ErrInFlight):
		return admin.ErrInFlight
	}
	return err
}
