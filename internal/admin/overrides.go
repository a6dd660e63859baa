package admin

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"cbproxy/internal/override"
)

const overridesExample = `{"set": {"breaker.fail_max": 10, "timeout": "5s"}, "duration": "30m", "reason": "slow disk"}`

// Overrides are values of keys of a service's route that an operator has set for a time, and their effect.
type Overrides struct {
	// Set has the values by the path of their key below the route, such as breaker.fail_max; empty if there are none.
	Set map[string]json.RawMessage `json:"set"`
	// Since and Until are nil if there are none.
	Since  *time.Time `json:"since"`
	Until  *time.Time `json:"until"`
	Reason string     `json:"reason"`
	// Keys has an entry for each key in Set, sorted.
	Keys []OverriddenKey `json:"keys"`
	// Changes are what the request has changed in the active configuration, or, if it changes nothing, the differences to that of file and
	// environment.
	Changes []ConfigChange `json:"changes"`
	// NotPersisted is why the change is lost when the process ends; "" if it is stored.
	NotPersisted string `json:"not_persisted,omitempty"`
}

// OverriddenKey is a key that is overridden.
type OverriddenKey struct {
	Key string `json:"key"`
	// FileValue is the value of file and environment, null if they have none. Value is the one that replaces it.
	FileValue json.RawMessage `json:"file_value"`
	Value     json.RawMessage `json:"value"`
}

// ConfigChange is a change of the effective configuration, in the words of cbproxy check --diff.
type ConfigChange struct {
	// Key is the complete path of the key, such as routes.rag_service.timeout.
	Key string `json:"key"`
	// Change is the old and the new value, such as 30s -> 5s.
	Change string `json:"change"`
	Effect string `json:"effect"`
}

// OverridesStatus is the part of a service's overrides that is included in its status.
type OverridesStatus struct {
	Keys   []string  `json:"keys"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until"`
	Reason string    `json:"reason"`
}

// DroppedOverrides are overrides that do not fit a new configuration.
type DroppedOverrides struct {
	Service string                     `json:"service"`
	Set     map[string]json.RawMessage `json:"set"`
	Time    time.Time                  `json:"time"`
	// Error lists the faults, one per line.
	Error string `json:"error"`
}

// overrides responds with the overrides of a service.
func (a *api) overrides(w http.ResponseWriter, r *http.Request) {
	o, ok := a.Backend.Overrides(r.PathValue("service"))
	if !ok {
		unknownService(w, r)
		return
	}
	respond(w, http.StatusOK, o)
}

// overridesRequest is the content of a request to set overrides.
type overridesRequest struct {
	set      json.RawMessage
	duration time.Duration
	reason   string
}

// setOverrides replaces the overrides of a service.
func (a *api) setOverrides(w http.ResponseWriter, r *http.Request, name string) {
	wanted, ok := readRequest(w, r, overridesExample, func(fields map[string]json.RawMessage) (overridesRequest, []string) {
		return a.parseOverrides(name, fields)
	})
	if !ok {
		return
	}
	o, err := a.Backend.SetOverrides(name, wanted.set, wanted.duration, wanted.reason)
	a.respondOverrides(w, r, o, err, action{
		Action: "set-overrides", Service: name, Set: override.Flatten(wanted.set), Duration: wanted.duration.String(), Reason: wanted.reason,
	})
}

// endOverrides ends the overrides of a service.
func (a *api) endOverrides(w http.ResponseWriter, r *http.Request, name string) {
	reason, ok := reasonOf(w, r)
	if !ok {
		return
	}
	o, err := a.Backend.EndOverrides(name, reason)
	a.respondOverrides(w, r, o, err, action{Action: "end-overrides", Service: name, Reason: reason})
}

// respondOverrides audits a change of overrides, and responds with its result.
func (a *api) respondOverrides(w http.ResponseWriter, r *http.Request, o Overrides, err error, done action) {
	status, pending := http.StatusOK, (*NotPersistedError)(nil)
	if errors.As(err, &pending) {
		status, err = http.StatusAccepted, nil
		o.NotPersisted = "the change is in force, but is lost if the process ends before it is written to disk: " + pending.Error()
	}
	done.Error = text(err)
	var fields []any
	if len(o.Changes) > 0 {
		fields = append(fields, "changes", changesText(o.Changes))
	}
	if o.NotPersisted != "" {
		fields = append(fields, "not_persisted", o.NotPersisted)
	}
	a.audit(r, done, fields...)
	invalid := (*InvalidKeysError)(nil)
	switch {
	case err == nil:
		respond(w, status, o)
	case errors.Is(err, ErrUnknownService): // it has been removed meanwhile
		unknownService(w, r)
	case errors.As(err, &invalid): // the configuration has changed meanwhile
		writeProblem(w, http.StatusBadRequest, "the body is invalid", invalid.Faults...)
	default:
		writeProblem(w, http.StatusInternalServerError, "cannot apply the configuration, nothing has changed: "+err.Error())
	}
}

// changesText returns changes on one line.
func changesText(changes []ConfigChange) string {
	texts := make([]string, len(changes))
	for i, c := range changes {
		texts[i] = c.Key + ": " + c.Change
	}
	return strings.Join(texts, "; ")
}

// parseOverrides parses the keys of a body. It returns all faults at once, with those of the values for the service.
func (a *api) parseOverrides(service string, fields map[string]json.RawMessage) (o overridesRequest, _ []string) {
	var faults faultList
	if _, ok := fields["set"]; !ok {
		faults.add(`set: must be an object such as {"breaker.fail_max": 10}, but is missing`)
	}
	if _, ok := fields["duration"]; !ok {
		faults.add("duration: must be a duration of at most %v, but is missing", override.MaxDuration)
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		value := fields[key]
		switch key {
		case "set":
			o.set = value
			faults = append(faults, a.checkSet(service, value)...)
		case "duration":
			o.duration = time.Duration(faults.parseLimitedDuration(key, value, override.MaxDuration))
		case "reason":
			o.reason = faults.parseReason(value)
		default:
			faults.add("%s: unknown key; the keys are set, duration and reason", key)
		}
	}
	return o, faults
}

// checkSet returns the faults of the values that are to be set.
func (a *api) checkSet(service string, set json.RawMessage) (faults faultList) {
	switch {
	case set[0] != '{':
		faults.add(`set: must be an object such as {"breaker.fail_max": 10}, got %s`, set)
		return faults
	case len(override.Flatten(set)) == 0:
		faults.add(`set: must have at least one key, got %s`, set)
		return faults
	}
	invalid := (*InvalidKeysError)(nil)
	if err := a.Backend.CheckOverrides(service, set); errors.As(err, &invalid) {
		return invalid.Faults
	}
	return faults // SetOverrides returns any other error, too
}
