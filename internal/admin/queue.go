package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"cbproxy/internal/events"
)

// Queues provides the queues of all services. All methods must be safe for concurrent use.
type Queues interface {
	// Status returns the status of each service's queue by service name.
	Status() map[string]events.QueueStatus
	// List returns up to limit requests of a service that are in the given state, oldest first. It starts after the request
	// with the ID after, or with the oldest if after is "".
	List(service, state, after string, limit int) ([]events.QueuedRequest, error)
	// Retry makes a request be delivered as soon as the breaker and the order of the queue permit. A dead request is queued
	// again with a new ID and all its attempts. Retry returns once the change is stored. The error is ErrUnknownRequest or an
	// error of the store.
	Retry(ctx context.Context, id string) (events.QueuedRequest, error)
	// Drop removes a request and returns it once the removal is stored. The error is ErrUnknownRequest, ErrInFlight, or an
	// error of the store.
	Drop(id string) (events.QueuedRequest, error)
}

var (
	// ErrUnknownRequest is returned if no queued request has the ID.
	ErrUnknownRequest = errors.New("no queued request has this id")
	// ErrInFlight is returned if a request cannot be dropped because it is being delivered.
	ErrInFlight = errors.New("the request is being delivered, try again later")
)

const (
	defaultListLimit = 100
	maxListLimit     = 1000
)

// queueStates are the states of queued requests in the order of a list.
var queueStates = []string{"waiting", "dead"}

// queue responds with the status of all queues and a page of their requests.
func (a *api) queue(w http.ResponseWriter, r *http.Request) {
	queues := a.Backend.Queues().Status()
	query, faults := parseListQuery(r.URL.Query(), queues)
	if len(faults) > 0 {
		writeProblem(w, http.StatusBadRequest, "the query is invalid", faults...)
		return
	}
	requests := []events.QueuedRequest{}
	for _, service := range query.services {
		for _, state := range query.states {
			page, err := a.Backend.Queues().List(service, state, query.after, query.limit+1-len(requests))
			if err != nil {
				writeProblem(w, http.StatusInternalServerError, err.Error())
				return
			}
			if requests = append(requests, page...); len(requests) > query.limit {
				break
			}
		}
	}
	more := len(requests) > query.limit
	respond(w, http.StatusOK, map[string]any{"queues": queues, "requests": requests[:min(len(requests), query.limit)], "more": more})
}

// listQuery selects queued requests.
type listQuery struct {
	services, states []string
	after            string // the ID of the last request of the previous page; "" for the first page
	limit            int
}

// parseListQuery parses the query of a list. It returns all faults at once.
func parseListQuery(query url.Values, queues map[string]events.QueueStatus) (q listQuery, faults []string) {
	q = listQuery{states: queueStates, limit: defaultListLimit, after: query.Get("after")}
	for name := range queues {
		q.services = append(q.services, name)
	}
	slices.Sort(q.services)
	if s := query.Get("service"); s != "" {
		if _, ok := queues[s]; !ok {
			faults = append(faults, "service: must be a service with a queue, got "+strconv.Quote(s))
		}
		q.services = []string{s}
	}
	if s := query.Get("state"); s != "" {
		if !slices.Contains(queueStates, s) {
			faults = append(faults, "state: must be waiting or dead, got "+strconv.Quote(s))
		}
		q.states = []string{s}
	}
	if s := query.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxListLimit {
			faults = append(faults, "limit: must be from 1 to "+strconv.Itoa(maxListLimit)+", got "+strconv.Quote(s))
		}
		q.limit = n
	}
	if q.after != "" && (len(q.services) != 1 || len(q.states) != 1) {
		faults = append(faults, "after: requires service and state")
	}
	return q, faults
}

func (a *api) retryQueued(w http.ResponseWriter, r *http.Request) {
	if reason, ok := reasonOf(w, r); ok {
		request, err := withStoreTimeout(func() (events.QueuedRequest, error) { return a.Backend.Queues().Retry(r.Context(), r.PathValue("id")) })
		a.respondQueued(w, r, action{Action: "retry-queued", Reason: reason}, request, err)
	}
}

func (a *api) dropQueued(w http.ResponseWriter, r *http.Request) {
	if reason, ok := reasonOf(w, r); ok {
		request, err := withStoreTimeout(func() (events.QueuedRequest, error) { return a.Backend.Queues().Drop(r.PathValue("id")) })
		a.respondQueued(w, r, action{Action: "drop-queued", Reason: reason}, request, err)
	}
}

// storeTimeout limits how long a request waits for the store of the queue, as its disk may hang.
const storeTimeout = 10 * time.Second

var errStoreTimeout = fmt.Errorf("the store has not responded within %v, the change may still be made later", storeTimeout)

// withStoreTimeout returns the result of do, or errStoreTimeout if do takes too long. do continues in the background then.
func withStoreTimeout(do func() (events.QueuedRequest, error)) (events.QueuedRequest, error) {
	type result struct {
		request events.QueuedRequest
		err     error
	}
	done := make(chan result, 1)
	go func() {
		request, err := do()
		done <- result{request, err}
	}()
	select {
	case r := <-done:
		return r.request, r.err
	case <-time.After(storeTimeout):
		return events.QueuedRequest{}, errStoreTimeout
	}
}

// respondQueued logs the action done and responds with its result.
func (a *api) respondQueued(w http.ResponseWriter, r *http.Request, done action, request events.QueuedRequest, err error) {
	done.Service, done.Request, done.Error = request.Service, r.PathValue("id"), text(err)
	a.audit(r, done)
	switch {
	case errors.Is(err, ErrUnknownRequest):
		writeProblem(w, http.StatusNotFound, "no queued request has the id "+strconv.Quote(r.PathValue("id")))
	case errors.Is(err, ErrInFlight):
		writeProblem(w, http.StatusConflict, err.Error())
	case err != nil:
		writeProblem(w, http.StatusInternalServerError, err.Error())
	default:
		respond(w, http.StatusOK, request)
	}
}
