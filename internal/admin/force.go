package admin

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"golang.org/x/net/http/httpguts"

	"cbproxy/internal/breaker/keyed"
	"cbproxy/internal/events"
)

const (
	fleetTimeout = 3 * time.Second

	forceExample = `{"state": "open", "duration": "10m", "reason": "maintenance"}`
)

// forceRequest is the content of a force-state request. Either auto is set or state is valid. A duration of 0 is unlimited.
type forceRequest struct {
	auto     bool
	state    events.State
	duration time.Duration
	reason   string
	fleet    bool
	key      string // "": the service's own breaker
}

func (a *api) forceState(w http.ResponseWriter, r *http.Request, name string) {
	request, ok := readRequest(w, r, forceExample, parseForceRequest)
	if !ok {
		return
	}
	if request.key != "" {
		a.forceKey(w, r, name, &request)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), fleetTimeout)
	defer cancel()
	var err error
	if request.auto {
		err = a.Backend.Release(ctx, name, request.fleet, request.reason)
	} else {
		err = a.Backend.Force(ctx, name, request.fleet, request.state, request.duration, request.reason)
	}
	if pending := (*NotPersistedError)(nil); errors.As(err, &pending) {
		a.audit(r, request.action(name, nil), "not_persisted", pending)
		a.respondNotPersisted(w, r, pending)
		return
	}
	a.audit(r, request.action(name, err))
	if err != nil {
		writeProblem(w, http.StatusServiceUnavailable, "cannot confirm that the fleet's state has changed: "+err.Error())
		return
	}
	a.service(w, r)
}

// respondNotPersisted responds with the service and the reason why its state is not stored.
func (a *api) respondNotPersisted(w http.ResponseWriter, r *http.Request, reason error) {
	s, ok := a.Backend.Service(r.PathValue("service"))
	if !ok {
		unknownService(w, r)
		return
	}
	s.NotPersisted = "the state is in force, but is lost if the process is killed before the state is written to disk: " + reason.Error()
	respond(w, http.StatusAccepted, s)
}

// parseForceRequest parses the keys of a body. It returns all faults at once.
func parseForceRequest(fields map[string]json.RawMessage) (f forceRequest, _ []string) {
	var faults faultList
	if _, ok := fields["state"]; !ok {
		faults.add(`state: must be "open", "closed", "half-open" or "auto", but is missing`)
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		value := fields[key]
		switch key {
		case "state":
			if !f.parseState(value) {
				faults.add(`state: must be "open", "closed", "half-open" or "auto", got %s`, value)
			}
		case "duration":
			var ok bool
			if f.duration, ok = parseDuration(value); !ok {
				faults.add(`duration: must be a positive duration such as "10m" or a number of seconds, got %s`, value)
			}
		case "reason":
			f.reason = faults.parseReason(value)
		case "scope":
			if !f.parseScope(value) {
				faults.add(`scope: must be "instance" or "fleet", got %s`, value)
			}
		case "key":
			if f.key, _ = parseValue[string](value); !keyed.Valid(f.key) || !httpguts.ValidHeaderFieldValue(f.key) {
				faults.add("key: must be a value of the field breaker.by.header, of 1 to %d bytes", keyed.MaxKeyLength)
			}
		default:
			faults.add("%s: unknown key; the keys are state, duration, reason, scope and key", key)
		}
	}
	if f.duration > 0 && (f.auto || f.state == events.HalfOpen) {
		faults.add(`duration: is allowed only with the states "open" and "closed"`)
	}
	if f.fleet && f.key != "" {
		faults.add(`scope: must be "instance" with a key`)
	}
	return f, faults
}

func (f *forceRequest) parseState(value json.RawMessage) bool {
	var name string
	if json.Unmarshal(value, &name) != nil {
		return false
	}
	for _, s := range events.States {
		if s.String() == name {
			f.state = s
			return true
		}
	}
	f.auto = name == "auto"
	return f.auto
}

func (f *forceRequest) parseScope(value json.RawMessage) bool {
	var scope string
	if json.Unmarshal(value, &scope) != nil {
		return false
	}
	f.fleet = scope == "fleet"
	return f.fleet || scope == "instance"
}

// action returns the request as an event of the audit log; err is its result.
func (f *forceRequest) action(service string, err error) action {
	done := action{Action: "force-state", Service: service, State: "auto", Scope: "instance", Reason: f.reason, Error: text(err)}
	if !f.auto {
		done.State = f.state.String()
	}
	if f.duration > 0 {
		done.Duration = f.duration.String()
	}
	if f.fleet {
		done.Scope = "fleet"
	}
	if f.key != "" {
		done.Scope = "key"
	}
	return done
}
