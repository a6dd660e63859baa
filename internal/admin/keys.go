package admin

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"cbproxy/internal/breaker/keyed"
	"cbproxy/internal/events"
)

// KeysSummary are the numbers of a service's keys: those that have a breaker of their own, see breaker.by.
type KeysSummary struct {
	Total    int `json:"total"`
	Open     int `json:"open"`
	HalfOpen int `json:"half_open"`
}

// NewKeysSummary returns the API's form of the numbers of keys.
func NewKeysSummary(c events.KeyCounts) *KeysSummary {
	return &KeysSummary{Total: c.Total(), Open: c.Keys[events.Open], HalfOpen: c.Keys[events.HalfOpen]}
}

// KeyList are the keys of a service.
type KeyList struct {
	Service string `json:"service"`
	// Header is breaker.by.header, "" if requests are not judged by key, and Max the number of keys.
	Header string `json:"header"`
	Max    int    `json:"max"`
	// Keys are the keys, the most interesting first: see keyed.Breakers.List.
	Keys []Key `json:"keys"`
}

// Key is the status of the breaker of one key of a service.
type Key struct {
	// Service is set in the response to a force-state request only.
	Service     string          `json:"service,omitempty"`
	Key         string          `json:"key"`
	State       events.State    `json:"state"`
	Since       time.Time       `json:"since"`
	RetryAt     *time.Time      `json:"retry_at"`
	FailCounter int             `json:"fail_counter"`
	Forced      *Forced         `json:"forced"`
	LastError   *events.Failure `json:"last_error"`
	// LastUsed is when the last request with the key began; null if there was none.
	LastUsed *time.Time `json:"last_used"`
}

// NewKey returns the API's form of the status of a key.
func NewKey(s events.KeyStatus) Key {
	k := Key{
		Key: s.Key, State: s.State, Since: s.Since.UTC(), RetryAt: TimeOrNil(s.RetryAt), FailCounter: s.ConsecutiveFailures,
		LastError: s.LastFailure, LastUsed: TimeOrNil(s.LastUsed),
	}
	if f := s.Forced; f != nil {
		k.Forced = &Forced{State: f.State, Until: TimeOrNil(f.Until), Reason: f.Reason, Scope: "instance"}
	}
	return k
}

// keys responds with the keys of a service, with the query parameter limit only with the first ones.
func (a *api) keys(w http.ResponseWriter, r *http.Request) {
	limit := math.MaxInt
	if text := r.URL.Query().Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			writeProblem(w, http.StatusBadRequest, "the query is invalid", "limit: must be a positive number")
			return
		}
		limit = n
	}
	list, ok := a.Backend.Keys(r.PathValue("service"))
	if !ok {
		unknownService(w, r)
		return
	}
	list.Keys = list.Keys[:min(len(list.Keys), limit)]
	respond(w, http.StatusOK, list)
}

// forceKey forces the state of the breaker of a key, or releases it. The key itself is not logged.
func (a *api) forceKey(w http.ResponseWriter, r *http.Request, service string, request *forceRequest) {
	var status events.KeyStatus
	var err error
	if request.auto {
		status, err = a.Backend.ReleaseKey(service, request.key, request.reason)
	} else {
		status, err = a.Backend.ForceKey(service, request.key, request.state, request.duration, request.reason)
	}
	a.audit(r, request.action(service, err))
	switch {
	case err == nil:
		k := NewKey(status)
		k.Service = service
		respond(w, http.StatusOK, k)
	case errors.Is(err, keyed.ErrAllForced):
		writeProblem(w, http.StatusConflict, err.Error())
	default:
		writeProblem(w, http.StatusBadRequest, "the body is invalid", "key: "+err.Error())
	}
}
