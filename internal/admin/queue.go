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

// Queues is the queues of all services, as the admin plane sees them.
type Queues interface {
	// Status returns every service's queue.
	Status() map[string]events.QueueStatus
	// List returns up to limit requests of a service in a state, oldest first, that come after
	// the one with the given ID; "" is before the first.
	List(service, state, after string, limit int) ([]events.QueuedRequest, error)
	// Retry lets a request be tried at once, and Drop removes it. The error is
	// ErrUnknownRequest, ErrInFlight, or says why it could not be done.
	Retry(ctx context.Context, id string) (events.QueuedRequest, error)
	Drop(id string) (events.QueuedRequest, error)
}

var (
	// ErrUnknownRequest is the error of an ID that no queued request has.
	ErrUnknownRequest = errors.New("no queued request has this id")
	// ErrInFlight is the error of a request that can't be dropped because it is being sent.
	ErrInFlight = errors.New("the request is being sent at this moment")
)

const (
	listDefault = 100 // requests of a list that does not say how many
	listMost    = 1000
)

// queueStates are the states of queued requests, in the order in which they are listed.
var queueStates = []string{"waiting", "dead"}

// queue answers with the queues and some of what is in them.
func (a *api) queue(w http.ResponseWriter, r *http.Request) {
	queues := a.Proxy.Queues().Status()
	o, faults := parseListOrder(r.URL.Query(), queues)
	if len(faults) > 0 {
		writeProblem(w, http.StatusBadRequest, "the query has faults", faults...)
		return
	}
	requests := []events.QueuedRequest{}
	for _, service := range o.services {
		for _, state := range o.states {
			more, err := a.Proxy.Queues().List(service, state, o.after, o.limit+1-len(requests))
			if err != nil {
				writeProblem(w, http.StatusInternalServerError, err.Error())
				return
			}
			if requests = append(requests, more...); len(requests) > o.limit {
				break
			}
		}
	}
	more := len(requests) > o.limit
	respond(w, http.StatusOK, map[string]any{"queues": queues, "requests": requests[:min(len(requests), o.limit)], "more": more})
}

// listOrder is what a list is to have in it.
type listOrder struct {
	services, states []string
	after            string
	limit            int
}

// parseListOrder returns the order in a query, or all of its faults.
func parseListOrder(query url.Values, queues map[string]events.QueueStatus) (o listOrder, faults []string) {
	o = listOrder{states: queueStates, limit: listDefault, after: query.Get("after")}
	for name := range queues {
		o.services = append(o.services, name)
	}
	slices.Sort(o.services)
	if s := query.Get("service"); s != "" {
		if _, ok := queues[s]; !ok {
			faults = append(faults, "service: must be one that has a queue, got "+strconv.Quote(s))
		}
		o.services = []string{s}
	}
	if s := query.Get("state"); s != "" {
		if !slices.Contains(queueStates, s) {
			faults = append(faults, "state: must be waiting or dead, got "+strconv.Quote(s))
		}
		o.states = []string{s}
	}
	if s := query.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > listMost {
			faults = append(faults, "limit: must be from 1 to "+strconv.Itoa(listMost)+", got "+strconv.Quote(s))
		}
		o.limit = n
	}
	if o.after != "" && (len(o.services) != 1 || len(o.states) != 1) {
		faults = append(faults, "after: goes with a service and a state")
	}
	return o, faults
}

func (a *api) retryQueued(w http.ResponseWriter, r *http.Request) {
	if reason, ok := reasonOf(w, r); ok {
		request, err := bounded(func() (events.QueuedRequest, error) { return a.Proxy.Queues().Retry(r.Context(), r.PathValue("id")) })
		a.answerQueued(w, r, action{Action: "retry-queued", Reason: reason}, request, err)
	}
}

func (a *api) dropQueued(w http.ResponseWriter, r *http.Request) {
	if reason, ok := reasonOf(w, r); ok {
		request, err := bounded(func() (events.QueuedRequest, error) { return a.Proxy.Queues().Drop(r.PathValue("id")) })
		a.answerQueued(w, r, action{Action: "drop-queued", Reason: reason}, request, err)
	}
}

// storeTimeout bounds how long an operator waits for the store of the queue, whose disk may hang.
const storeTimeout = 10 * time.Second

var errStoreTimeout = fmt.Errorf("the store has not answered within %v: it may be done later, or not", storeTimeout)

// bounded calls do, which returns once the store has what it changes, and returns errStoreTimeout if that takes too long.
func bounded(do func() (events.QueuedRequest, error)) (events.QueuedRequest, error) {
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

func (a *api) answerQueued(w http.ResponseWriter, r *http.Request, done action, request events.QueuedRequest, err error) {
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
