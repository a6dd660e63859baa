package admin

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"golang.org/x/net/http/httpguts"

	"cbproxy/internal/events"
	"cbproxy/internal/fault"
)

const faultExample = `{"kind": "abort", "status": 503, "share": 0.2, "duration": "5m", "reason": "rehearsal"}`

// Statuses of the responses of an injected abort.
const (
	defaultFaultStatus = http.StatusServiceUnavailable
	minFaultStatus     = 200
	maxFaultStatus     = 599
)

// faults responds with the faults in force for a service, oldest first.
func (a *api) faults(w http.ResponseWriter, _ *http.Request, name string) {
	respond(w, http.StatusOK, a.Backend.Faults(name))
}

// injectFault puts a fault into force.
func (a *api) injectFault(w http.ResponseWriter, r *http.Request, name string) {
	wanted, ok := readRequest(w, r, faultExample, parseFault)
	if !ok {
		return
	}
	started, err := a.Backend.InjectFault(name, wanted)
	a.audit(r, action{
		Action: "inject-fault", Service: name, Fault: started.ID, Kind: wanted.Kind, Share: wanted.Share, Duration: wanted.Duration.String(),
		Reason: wanted.Reason, Error: text(err),
	}, faultAttributes(wanted)...)
	switch {
	case errors.Is(err, fault.ErrTooMany):
		writeProblem(w, http.StatusConflict, err.Error())
	case err != nil: // the service has been removed meanwhile
		unknownService(w, r)
	default:
		w.Header().Set("Location", "/api/v1/circuit-breakers/"+url.PathEscape(name)+"/faults/"+started.ID)
		respond(w, http.StatusCreated, started)
	}
}

// faultAttributes returns the settings of a fault that only its kind has, and its match, for the log.
func faultAttributes(f events.Fault) (attributes []any) {
	if f.Status != 0 {
		attributes = append(attributes, "status", f.Status)
	}
	if f.Delay != 0 {
		attributes = append(attributes, "delay", f.Delay.String())
	}
	if f.Match != nil {
		attributes = append(attributes, "match_header", f.Match.Header, "match_value", f.Match.Value)
	}
	return attributes
}

// endFault ends a fault.
func (a *api) endFault(w http.ResponseWriter, r *http.Request, name string) {
	id := r.PathValue("id")
	reason, ok := reasonOf(w, r)
	if !ok {
		return
	}
	ended, err := a.Backend.EndFault(name, id, reason)
	a.audit(r, action{Action: "end-fault", Service: name, Fault: id, Kind: ended.Kind, Reason: reason, Error: text(err)})
	if err != nil {
		writeProblem(w, http.StatusNotFound, "no fault of this service has the id "+strconv.Quote(id)+"; it may have ended")
		return
	}
	respond(w, http.StatusOK, ended)
}

// parseFault parses the settings of a fault. It returns all faults of the body at once. Settings that only other kinds than the
// fault's have are checked, and then ignored.
func parseFault(fields map[string]json.RawMessage) (f events.Fault, _ []string) {
	var faults faultList
	f.Status, f.Share = defaultFaultStatus, 1
	const kinds = `"abort", "delay", "reset" or "cut"`
	if _, ok := fields["kind"]; !ok {
		faults.add("kind: must be %s, but is missing", kinds)
	}
	if _, ok := fields["duration"]; !ok {
		faults.add("duration: must be a duration of at most %v, but is missing", fault.MaxDuration)
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		value, ok := fields[key], false
		switch key {
		case "kind":
			if f.Kind, ok = parseValue[events.FaultKind](value); !ok || !slices.Contains(events.FaultKinds[:], f.Kind) {
				faults.add("kind: must be %s, got %s", kinds, value)
			}
		case "status":
			if f.Status, ok = parseValue[int](value); !ok || f.Status < minFaultStatus || f.Status > maxFaultStatus {
				faults.add("status: must be a whole number from %d to %d, got %s", minFaultStatus, maxFaultStatus, value)
			}
		case "delay":
			f.Delay = faults.parseLimitedDuration(key, value, fault.MaxDelay)
		case "share":
			if f.Share, ok = parseValue[float64](value); !ok || f.Share <= 0 || f.Share > 1 {
				faults.add("share: must be a number above 0 and at most 1, got %s", value)
			}
		case "duration":
			f.Duration = faults.parseLimitedDuration(key, value, fault.MaxDuration)
		case "match":
			f.Match = faults.parseFaultMatch(value)
		case "reason":
			f.Reason = faults.parseReason(value)
		default:
			faults.add("%s: unknown key; the keys are kind, status, delay, share, duration, match and reason", key)
		}
	}
	if _, ok := fields["delay"]; !ok && f.Kind == events.FaultDelay {
		faults.add("delay: must be a duration of at most %v, but is missing", fault.MaxDelay)
	}
	if f.Kind != events.FaultAbort {
		f.Status = 0
	}
	if f.Kind != events.FaultDelay {
		f.Delay = 0
	}
	return f, faults
}

func (l *faultList) parseLimitedDuration(key string, value json.RawMessage, limit time.Duration) events.Duration {
	d, ok := parseDuration(value)
	if !ok || d > limit {
		l.add(`%s: must be a positive duration such as "5m" or a number of seconds, of at most %v, got %s`, key, limit, value)
	}
	return events.Duration(d)
}

// parseFaultMatch parses the field match.
func (l *faultList) parseFaultMatch(value json.RawMessage) *events.FaultMatch {
	fields, ok := parseValue[map[string]json.RawMessage](value)
	if !ok {
		l.add(`match: must be an object such as {"header": "X-Test", "value": "1"}, got %s`, value)
		return nil
	}
	m := new(events.FaultMatch)
	if _, ok := fields["header"]; !ok {
		l.add("match.header: must be the name of a header field, but is missing")
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		value, ok := fields[key], false
		switch key {
		case "header":
			m.Header, ok = parseValue[string](value)
			if !ok || !httpguts.ValidHeaderFieldName(m.Header) || http.CanonicalHeaderKey(m.Header) == "Host" {
				l.add("match.header: must be the name of a header field other than Host, got %s", value)
			}
		case "value":
			if m.Value, ok = parseValue[string](value); !ok || !httpguts.ValidHeaderFieldValue(m.Value) {
				l.add("match.value: must be a string that a header field can have, got %s", value)
			}
		default:
			l.add("match.%s: unknown key; the keys are header and value", key)
		}
	}
	return m
}
