package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// logLines returns the lines that are logged for events, in the form LEVEL message key=value…, without the time.
func logLines(t *testing.T, list ...events.Event) (lines []string) {
	t.Helper()
	var bus events.Bus
	sub := bus.Subscribe(len(list))
	for _, e := range list {
		bus.Publish(e)
	}
	sub.Close()
	var b bytes.Buffer
	logEvents(context.Background(), slog.New(slog.NewJSONHandler(&b, nil)), sub)
	for line := range strings.Lines(b.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprint(fields["level"], " ", fields["msg"])
		for _, key := range []string{"service", "endpoint", "cause", "until", "last_failure", "detail", "added", "removed", "error"} {
			if v := fields[key]; v != nil {
				text += fmt.Sprintf(" %s=%v", key, v)
			}
		}
		lines = append(lines, text)
	}
	return lines
}

func TestChangesOfEndpointsAreLogged(t *testing.T) {
	until := time.Date(2026, 11, 29, 12, 0, 30, 0, time.UTC)
	got := logLines(t,
		events.EndpointChanged{
			Service: "svc", Endpoint: "http://a:1", State: events.EndpointEjected, Cause: events.EndpointFailed, Until: until,
			Failure: &events.Failure{Type: events.ErrorConnect, Detail: "refused"},
		},
		events.EndpointChanged{Service: "svc", Endpoint: "http://a:1", State: events.EndpointIn, Cause: events.EndpointRecovered},
		events.EndpointsChanged{Service: "svc", Added: []string{"http://a:2"}, Removed: []string{"http://a:1"}},
		events.EndpointsChanged{Service: "svc", Error: "no such host"},
		events.EndpointsChanged{Service: "svc", Error: "no such host"}, // not logged again
		events.EndpointsChanged{Service: "other"},
		events.EndpointsChanged{Service: "svc", Added: []string{"http://a:3"}},
		events.EndpointsChanged{Service: "svc", Error: "timeout"},
	)
	want := []string{
		"WARN endpoint ejected service=svc endpoint=http://a:1 cause=failed until=2026-11-29T12:00:30Z last_failure=connect detail=refused",
		"INFO endpoint gets requests again service=svc endpoint=http://a:1 cause=recovered",
		"INFO endpoints of a service changed in DNS service=svc added=[http://a:2] removed=[http://a:1]",
		"WARN cannot look up the endpoints of a service, keeping those that are known service=svc error=no such host",
		"INFO endpoints of a service are looked up again service=svc",
		"INFO endpoints of a service changed in DNS service=svc added=[http://a:3]",
		"WARN cannot look up the endpoints of a service, keeping those that are known service=svc error=timeout",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
