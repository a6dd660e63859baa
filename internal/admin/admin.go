// Package admin implements the admin HTTP API and the dashboard: health, history, events, metrics, forced states, overridden
// keys, queues and reloads. It accesses the rest of the proxy through the interface Backend.
package admin

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/simulate"
	"cbproxy/internal/trends"
)

// Backend is the running proxy as the admin API needs it. All methods must be safe for concurrent use.
type Backend interface {
	// Health returns the whole proxy's health.
	Health() Health
	// Service returns one service's status; false if no service has that name.
	Service(name string) (Service, bool)
	// Force forces the state of a service's breaker, on this instance or in the whole fleet. The state lasts for d, or until
	// Release if d is 0. Force does nothing if no service has that name. It returns once the state is in this instance's
	// store, or with a *NotPersistedError if the state is set but not stored yet. Any other error means that the fleet
	// may not have received the state.
	Force(ctx context.Context, service string, fleet bool, state events.State, d time.Duration, reason string) error
	// Release ends a forced state. Its errors are those of Force.
	Release(ctx context.Context, service string, fleet bool, reason string) error
	// Keys returns the keys of a service; false if no service has that name.
	Keys(service string) (KeyList, bool)
	// ForceKey forces the state of the breaker of a key of a service: see keyed.Breakers.Force, whose errors it returns.
	ForceKey(service, key string, state events.State, d time.Duration, reason string) (events.KeyStatus, error)
	// ReleaseKey ends a forced state of a key, if there is one. The error is keyed.ErrClosed.
	ReleaseKey(service, key, reason string) (events.KeyStatus, error)
	// Faults returns the faults that are in force for a service, oldest first; not nil.
	Faults(service string) []events.Fault
	// InjectFault puts a fault with the settings of f into force and returns it. The error is fault.ErrTooMany, or means that no
	// service has that name.
	InjectFault(service string, f events.Fault) (events.Fault, error)
	// EndFault ends a fault and returns it. An error means that no fault of the service has that ID.
	EndFault(service, id, reason string) (events.Fault, error)
	// Overrides returns the overrides of a service; false if no service has that name.
	Overrides(service string) (Overrides, bool)
	// CheckOverrides returns nil if SetOverrides accepts the values, or its error.
	CheckOverrides(service string, set json.RawMessage) error
	// SetOverrides replaces the overrides of a service by the values in a JSON object, whose keys may be paths such as breaker.fail_max, for
	// d. It returns once they are in force and stored. The error is an *InvalidKeysError, ErrUnknownService, a *NotPersistedError if they
	// are in force, but not stored yet, or means that the configuration can't be applied. Unless it is a *NotPersistedError, nothing has
	// changed.
	SetOverrides(service string, set json.RawMessage, d time.Duration, reason string) (Overrides, error)
	// EndOverrides ends the overrides of a service, if there are any, and returns them. Its errors are those of SetOverrides.
	EndOverrides(service, reason string) (Overrides, error)
	// Baseline returns what the breaker of a service has learnt; false if no service has that name.
	Baseline(service string) (events.Baseline, bool)
	// ResetBaseline makes the breaker of a service forget what it has learnt. Its error is a *NotPersistedError.
	ResetBaseline(service string) error
	// Forecast returns what is predicted of a service; false if no service has that name.
	Forecast(service string) (events.Forecast, bool)
	// History returns the state changes of a service's breaker on all instances of the fleet, newest first.
	History(ctx context.Context, service string) ([]events.HistoryEntry, error)
	// Outcomes is outcomes.Store.Read.
	Outcomes(ctx context.Context, service string, since, until time.Time, yield func(service string, c events.Call) error) error
	// Policies returns the policy of a service's breaker with other values, and the one in force. keys is JSON in the form of the key
	// breaker of a route. The error is ErrUnknownService or an *InvalidKeysError.
	Policies(service string, keys []byte) (changed, active breaker.Policy, err error)
	// Queues returns the queues of all services.
	Queues() Queues
	// Ready returns nil if the proxy serves requests, or the reason why it does not.
	Ready() error
	// EffectiveConfig returns the active configuration, including defaults, as JSON with secrets redacted.
	EffectiveConfig() ([]byte, error)
	// Reload reloads the configuration. The error lists all faults of the configuration, one per line.
	Reload() error
	// ProtectReads reports whether reads need the token.
	ProtectReads() bool
	// Token returns the token that requests must carry to change state, or "" if none is configured.
	Token() (string, error)
	// Hosts returns the host names that are accepted in addition to IP addresses and private names; * accepts all.
	Hosts() []string
}

// NotPersistedError reports that a change has been made but is not stored yet. The change is lost if the process is killed.
type NotPersistedError struct{ Err error }

func (e *NotPersistedError) Error() string { return e.Err.Error() }
func (e *NotPersistedError) Unwrap() error { return e.Err }

// Config is what New needs. All fields are required.
type Config struct {
	Backend Backend
	Bus     *events.Bus
	Trends  *trends.Trends
	Metrics http.Handler
	Logger  *slog.Logger
}

// New returns the handler of the admin API. It rejects requests from web pages of other origins.
func New(c Config) http.Handler {
	a := &api{Config: c, auth: newAuthLimiter(), simulating: make(chan struct{}, 1)}
	mux := http.NewServeMux()
	for path, handler := range a.operations() {
		mux.Handle(path, handler)
	}
	mux.HandleFunc("/", a.dashboard)
	return a.guard(mux)
}

// operations returns the handlers by path. openapi.yaml describes them.
func (a *api) operations() map[string]http.Handler {
	const breakers = "/api/v1/circuit-breakers/"
	return map[string]http.Handler{
		"/healthz":                            only(http.MethodGet, a.alive),
		"/readyz":                             only(http.MethodGet, a.ready),
		"/metrics":                            a.read(func(w http.ResponseWriter, r *http.Request) { a.Metrics.ServeHTTP(w, r) }),
		breakers + "health":                   a.read(a.health),
		breakers + "{service}":                a.read(a.service),
		breakers + "{service}/history":        a.read(a.forService(a.history)),
		breakers + "{service}/force-state":    a.write(http.MethodPost, a.forService(a.forceState)),
		breakers + "{service}/keys":           a.read(a.keys),
		breakers + "{service}/baseline":       a.read(a.baseline),
		breakers + "{service}/baseline/reset": a.write(http.MethodPost, a.forService(a.resetBaseline)),
		breakers + "{service}/forecast":       a.read(a.forecast),
		breakers + "{service}/faults":         a.readOrWrite(a.forService(a.faults), map[string]http.HandlerFunc{http.MethodPost: a.forService(a.injectFault)}),
		breakers + "{service}/faults/{id}":    a.write(http.MethodDelete, a.forService(a.endFault)),
		breakers + "{service}/overrides": a.readOrWrite(a.overrides, map[string]http.HandlerFunc{
			http.MethodPut: a.forService(a.setOverrides), http.MethodDelete: a.forService(a.endOverrides),
		}),
		"/api/v1/queue":            a.read(a.queue),
		"/api/v1/queue/{id}":       a.write(http.MethodDelete, a.dropQueued),
		"/api/v1/queue/{id}/retry": a.write(http.MethodPost, a.retryQueued),
		"/api/v1/events":           a.read(a.events),
		"/api/v1/trends":           a.read(a.trends),
		"/api/v1/outcomes":         a.read(a.outcomes),
		"/api/v1/simulate":         a.readBy(http.MethodPost, a.simulate),
		"/api/v1/config":           a.read(a.config),
		"/api/v1/config/reload":    a.write(http.MethodPost, a.reload),
		"/api/v1/openapi.json":     a.read(a.openapi),
	}
}

type api struct {
	Config
	auth        *authLimiter
	simulating  chan struct{} // has a capacity of 1; full while a simulation runs
	simulated   simulate.Memo // used by the simulation that runs
	tokenFailed atomic.Bool   // whether the last attempt to read the token failed
}

func (a *api) alive(w http.ResponseWriter, _ *http.Request) {
	respond(w, http.StatusOK, map[string]string{"status": "alive"})
}

func (a *api) ready(w http.ResponseWriter, _ *http.Request) {
	if err := a.Backend.Ready(); err != nil {
		writeProblem(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	respond(w, http.StatusOK, map[string]string{"status": "ready"})
}

func (a *api) health(w http.ResponseWriter, _ *http.Request) {
	respond(w, http.StatusOK, a.Backend.Health())
}

func (a *api) service(w http.ResponseWriter, r *http.Request) {
	s, ok := a.Backend.Service(r.PathValue("service"))
	if !ok {
		unknownService(w, r)
		return
	}
	respond(w, http.StatusOK, s)
}

func (a *api) history(w http.ResponseWriter, r *http.Request, name string) {
	changes, err := a.Backend.History(r.Context(), name)
	if err != nil {
		writeProblem(w, http.StatusInternalServerError, err.Error())
		return
	}
	if changes == nil {
		changes = []events.HistoryEntry{}
	}
	respond(w, http.StatusOK, changes)
}

func (a *api) config(w http.ResponseWriter, _ *http.Request) {
	config, err := a.Backend.EffectiveConfig()
	if err != nil {
		writeProblem(w, http.StatusInternalServerError, err.Error())
		return
	}
	respond(w, http.StatusOK, json.RawMessage(config))
}

func (a *api) reload(w http.ResponseWriter, r *http.Request) {
	reason, ok := reasonOf(w, r)
	if !ok {
		return
	}
	err := a.Backend.Reload()
	a.audit(r, action{Action: "reload", Reason: reason, Error: text(err)})
	if err != nil {
		writeProblem(w, http.StatusBadRequest, "the configuration is invalid, the previous one stays in force", err.Error())
		return
	}
	respond(w, http.StatusOK, map[string]any{"config": a.Backend.Health().Config})
}
