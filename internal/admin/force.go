package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"mime"
	"net/http"
	"slices"
	"time"

	"cbproxy/internal/events"
)

const (
	maxForceBody  = 64 << 10
	fleetPatience = 3 * time.Second
)

// forceOrder is a force-state request.
type forceOrder struct {
	auto     bool
	state    events.State
	duration time.Duration
	reason   string
	fleet    bool
}

func (a *api) forceState(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("service")
	if _, ok := a.Proxy.Service(name); !ok {
		unknownService(w, r)
		return
	}
	if mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); mediaType != "application/json" {
		writeProblem(w, http.StatusUnsupportedMediaType, "the Content-Type must be application/json")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForceBody))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		writeProblem(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body must be at most %d bytes", maxForceBody))
		return
	} else if err != nil {
		writeProblem(w, http.StatusBadRequest, "the body ended early")
		return
	}
	order, faults := parseForce(body)
	if len(faults) > 0 {
		writeProblem(w, http.StatusBadRequest, "the body has faults", faults...)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), fleetPatience)
	defer cancel()
	if order.auto {
		err = a.Proxy.Release(ctx, name, order.fleet, order.reason)
	} else {
		err = a.Proxy.Force(ctx, name, order.fleet, order.state, order.duration, order.reason)
	}
	if pending := (*NotPersistedError)(nil); errors.As(err, &pending) {
		a.audit(r, order.action(name, nil), "not_persisted", pending)
		a.forcedNotPersisted(w, r, pending)
		return
	}
	a.audit(r, order.action(name, err))
	if err != nil {
		writeProblem(w, http.StatusServiceUnavailable, "the fleet can't be told, and nothing may have changed: "+err.Error())
		return
	}
	a.service(w, r)
}

// forcedNotPersisted answers with the service and why its state is not in the store.
func (a *api) forcedNotPersisted(w http.ResponseWriter, r *http.Request, why error) {
	s, ok := a.Proxy.Service(r.PathValue("service"))
	if !ok {
		unknownService(w, r)
		return
	}
	s.NotPersisted = "the state is in force, and is lost if the process is killed before it is on the disk: " + why.Error()
	respond(w, http.StatusAccepted, s)
}

// action is the order as it is told to others, with what came of it.
func (o *forceOrder) action(service string, err error) action {
	done := action{Action: "force-state", Service: service, State: "auto", Scope: "instance", Reason: o.reason, Error: text(err)}
	if !o.auto {
		done.State = o.state.String()
	}
	if o.duration > 0 {
		done.Duration = o.duration.String()
	}
	if o.fleet {
		done.Scope = "fleet"
	}
	return done
}

// parseForce returns the order in a body, or all of its faults.
func parseForce(body []byte) (o forceOrder, faults []string) {
	var fields map[string]json.RawMessage
	decoder := json.NewDecoder(bytes.NewReader(body))
	if err := decoder.Decode(&fields); err != nil || fields == nil {
		return o, []string{`the body must be a JSON object such as {"state": "open", "duration": "10m", "reason": "maintenance"}`}
	}
	if _, err := decoder.Token(); err != io.EOF {
		faults = append(faults, "the body must be one JSON object, with nothing behind it")
	}
	add := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if _, ok := fields["state"]; !ok {
		add(`state: must be "open", "closed", "half-open" or "auto", got nothing`)
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		value := fields[key]
		switch key {
		case "state":
			if !o.parseState(value) {
				add(`state: must be "open", "closed", "half-open" or "auto", got %s`, value)
			}
		case "duration":
			if !o.parseDuration(value) {
				add(`duration: must be a positive duration such as "10m" or a number of seconds, got %s`, value)
			}
		case "reason":
			if json.Unmarshal(value, &o.reason) != nil || len([]rune(o.reason)) > maxReason {
				add("reason: must be a string of at most %d characters", maxReason)
			}
		case "scope":
			if !o.parseScope(value) {
				add(`scope: must be "instance" or "fleet", got %s`, value)
			}
		default:
			add("%s: unknown key; known are state, duration, reason and scope", key)
		}
	}
	if o.duration > 0 && (o.auto || o.state == events.HalfOpen) {
		add(`duration: has a meaning only with the states "open" and "closed"`)
	}
	return o, faults
}

func (o *forceOrder) parseState(value json.RawMessage) bool {
	var word string
	if json.Unmarshal(value, &word) != nil {
		return false
	}
	for _, s := range events.States {
		if s.String() == word {
			o.state = s
			return true
		}
	}
	o.auto = word == "auto"
	return o.auto
}

func (o *forceOrder) parseDuration(value json.RawMessage) bool {
	var seconds float64
	if bytes.Equal(value, []byte("null")) {
		return false
	}
	if json.Unmarshal(value, &seconds) == nil {
		d := seconds * float64(time.Second)
		o.duration = time.Duration(d)
		return d > 0 && d < math.MaxInt64
	}
	var text string
	if json.Unmarshal(value, &text) != nil {
		return false
	}
	d, err := time.ParseDuration(text)
	o.duration = d
	return err == nil && d > 0
}

func (o *forceOrder) parseScope(value json.RawMessage) bool {
	var scope string
	if json.Unmarshal(value, &scope) != nil {
		return false
	}
	o.fleet = scope == "fleet"
	return o.fleet || scope == "instance"
}
