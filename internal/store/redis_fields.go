package store

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"cbproxy/internal/events"
)

// timeLayout shows times in Redis to people, and is exact enough for an opening's end.
const timeLayout = "2006-01-02T15:04:05.000000Z07:00"

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeLayout)
}

// fieldsOf returns s as the fields and values of a hash. All fields are always there.
func fieldsOf(s State) []any {
	return append(decisionOf(s), "epoch", strconv.FormatUint(s.Epoch, 10))
}

// decisionOf is fieldsOf without the epoch.
func decisionOf(s State) []any {
	return []any{
		"service_name", s.Service,
		"state", s.State.String(),
		"timestamp", formatTime(s.Timestamp),
		"fail_counter", strconv.Itoa(s.Failures),
		"instance", s.Instance,
		"opened_at", formatTime(s.OpenedAt),
		"until", formatTime(s.Until),
		"openings", strconv.Itoa(s.Openings),
		"forced", strconv.FormatBool(s.Forced),
		"cause", string(s.Cause),
		"reason", s.Reason,
		"prober", s.Prober,
	}
}

// parseFields reads what fieldsOf wrote. found is false for a hash that has no state, which is
// one that only counts findings.
func parseFields(service string, fields map[string]string) (s State, found bool, err error) {
	text, found := fields["state"]
	if !found {
		return State{}, false, nil
	}
	s = State{
		Service: service, Instance: fields["instance"],
		Cause: events.Cause(fields["cause"]), Reason: fields["reason"], Prober: fields["prober"],
	}
	read := func(field string, parse func(string) error) {
		if value := fields[field]; err == nil && value != "" {
			if problem := parse(value); problem != nil {
				err = fmt.Errorf("its field %s makes no sense: %w", field, problem)
			}
		}
	}
	at := func(t *time.Time) func(string) error {
		return func(value string) (err error) { *t, err = time.Parse(timeLayout, value); return err }
	}
	number := func(n *int) func(string) error {
		return func(value string) (err error) { *n, err = strconv.Atoi(value); return err }
	}
	read("state", func(string) error { return s.State.UnmarshalText([]byte(text)) })
	read("epoch", func(value string) (err error) { s.Epoch, err = strconv.ParseUint(value, 10, 53); return err })
	read("timestamp", at(&s.Timestamp))
	read("opened_at", at(&s.OpenedAt))
	read("until", at(&s.Until))
	read("fail_counter", number(&s.Failures))
	read("openings", number(&s.Openings))
	read("forced", func(value string) (err error) { s.Forced, err = strconv.ParseBool(value); return err })
	s.Shared = s.Forced
	if err == nil && fields["service_name"] != service {
		err = fmt.Errorf("it is the state of another service, %q", fields["service_name"])
	}
	if err != nil {
		return State{}, false, err
	}
	return s, true, nil
}

func encodeChange(c events.HistoryEntry) (string, error) {
	text, err := json.Marshal(c)
	return string(text), err
}

func decodeChange(value any) (c events.HistoryEntry, ok bool) {
	text, ok := value.(string)
	return c, ok && json.Unmarshal([]byte(text), &c) == nil
}
