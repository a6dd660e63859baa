package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"cbproxy/internal/breaker"
)

// simulateExample is an example of a request to simulate.
const simulateExample = `{"service": "rag_service", "since": "24h", "breaker": {"fail_max": 3}}`

const (
	defaultSimulatedTime = 24 * time.Hour
	maxBuckets           = 1000
)

// simulation is the content of a request to simulate.
type simulation struct {
	service      string
	since, until time.Time
	buckets      int            // 0: none
	unknown      bool           // there is no such service, and no policies
	config       breaker.Policy // with the keys of the request
	against      breaker.Policy // the one in force
}

// parseSimulation parses the keys of a body, and the parameter buckets. It returns all faults at once.
func (a *api) parseSimulation(fields map[string]json.RawMessage, buckets string, now time.Time) (s simulation, faults []string) {
	add := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	s.since, s.until = now.Add(-defaultSimulatedTime), now
	keys := json.RawMessage("{}")
	if _, ok := fields["service"]; !ok {
		add("service: must be the name of a service, but is missing")
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		value := fields[key]
		switch key {
		case "service":
			if json.Unmarshal(value, &s.service) != nil || s.service == "" {
				add("service: must be the name of a service, got %s", value)
			}
		case "since":
			s.since = parseTimeField(key, value, now, add)
		case "until":
			s.until = parseTimeField(key, value, now, add)
		case "breaker":
			if keys = value; value[0] != '{' {
				add(`breaker: must be an object such as {"fail_max": 3}, got %s`, value)
			}
		default:
			add("%s: unknown key; the keys are service, since, until and breaker", key)
		}
	}
	if len(faults) == 0 && !s.since.Before(s.until) {
		add("since: must be before until, got %s and %s", s.since.UTC().Format(time.RFC3339), s.until.UTC().Format(time.RFC3339))
	}
	if buckets != "" {
		n, err := strconv.Atoi(buckets)
		if s.buckets = n; err != nil || n < 1 || n > maxBuckets {
			add("buckets: must be from 1 to %d, got %q", maxBuckets, buckets)
		}
	}
	if keys[0] == '{' {
		faults = append(faults, a.setPolicies(&s, keys)...)
	}
	return s, faults
}

// parseTimeField parses a time as parseTime does. It adds a fault if that is not possible.
func parseTimeField(key string, value json.RawMessage, now time.Time, add func(format string, args ...any)) time.Time {
	var text string
	if json.Unmarshal(value, &text) != nil || text == "" {
		add(`%s: must be a time such as "2026-01-31T12:00:00Z", or a duration before now such as "24h", got %s`, key, value)
		return now
	}
	at, err := parseTime(text, now)
	if err != nil {
		add("%s: %v", key, err)
	}
	return at
}

// setPolicies sets the policies to compare. It returns the faults of the keys of a breaker.
func (a *api) setPolicies(s *simulation, keys json.RawMessage) []string {
	var err error
	s.config, s.against, err = a.Backend.Policies(s.service, keys)
	if invalid := (*InvalidKeysError)(nil); errors.As(err, &invalid) {
		return invalid.Faults
	}
	s.unknown = err != nil
	return nil
}
