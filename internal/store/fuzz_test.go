package store

import (
	"strings"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// FuzzFields parses arbitrary hashes. A state that was parsed must survive a round trip.
func FuzzFields(f *testing.F) {
	at := time.Date(2026, 3, 29, 1, 0, 0, 1000, time.UTC)
	whole := fieldsOf(State{Service: "svc", State: events.Open, OpenedAt: at, Until: at, Timestamp: at, Epoch: 7, Prober: "a/1"})
	var text strings.Builder
	for _, part := range whole {
		text.WriteString(part.(string) + "\n")
	}
	f.Add(text.String())
	f.Add("state\n{}\nepoch\n1e300")
	f.Add("state\nopen\nservice_name\nsvc\nuntil\n292277026596-01-01T00:00:00.000000Z")
	f.Fuzz(func(t *testing.T, text string) {
		parts := strings.Split(text, "\n")
		fields := map[string]string{}
		for i := 0; i+1 < len(parts); i += 2 {
			fields[parts[i]] = parts[i+1]
		}
		s, found, err := parseFields("svc", fields)
		if !found || err != nil {
			return
		}
		again := map[string]string{}
		for list := fieldsOf(s); len(list) > 0; list = list[2:] {
			again[list[0].(string)] = list[1].(string)
		}
		if got, found, err := parseFields("svc", again); got != s || !found || err != nil {
			t.Errorf("%+v was written and read as %+v, %v, %v", s, got, found, err)
		}
	})
}

// FuzzRedisURL checks that errors about a URL never contain its password.
func FuzzRedisURL(f *testing.F) {
	for _, seed := range [][2]string{
		{"redis://", "@h:6379/0"}, {"rediss+cluster://u:", "@h:1?addr=h:2"}, {"redis://:", "@h?master_name=m&sentinel=1"},
		{"redis://:", "@h:port"}, {"unix://", "/x"}, {"redis://h?password=", ""}, {"redis+sentinel://:", "@h/7"},
	} {
		f.Add(seed[0], seed[1])
	}
	const secret = "s3cr3tW0rd"
	f.Fuzz(func(t *testing.T, before, after string) {
		if strings.HasSuffix(before, "?") || strings.HasSuffix(before, "&") || strings.Contains(before+after, "invalid") {
			return // the name of a parameter is not secret
		}
		if err := ValidateRedisURL(before + secret + after); err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", before+secret+after, err)
		}
	})
}
