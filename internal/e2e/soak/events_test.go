package soak

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// eventListener follows an instance's events from its start on.
type eventListener struct {
	mu        sync.Mutex
	changes   map[string][]harness.StateChange // of state, by service
	snapshots int
}

func listen(t *testing.T, p *soakProxy) *eventListener {
	t.Helper()
	l := &eventListener{changes: map[string][]harness.StateChange{}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.AdminURL+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer res.Body.Close()
		lines := bufio.NewScanner(res.Body)
		lines.Buffer(nil, 1<<20) // a snapshot is one line
		name := ""
		for lines.Scan() {
			if e, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				name = e
			} else if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				l.take(name, data)
			}
		}
	}()
	return l
}

func (l *eventListener) take(name, data string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch name {
	case "snapshot":
		l.snapshots++
	case "state_changed":
		var c struct {
			Service string
			harness.StateChange
		}
		if json.Unmarshal([]byte(data), &c) == nil {
			l.changes[c.Service] = append(l.changes[c.Service], c.StateChange)
		}
	}
}

// of returns the changes of a service so far, and whether none was missed.
func (l *eventListener) of(service string) (changes []harness.StateChange, all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]harness.StateChange(nil), l.changes[service]...), l.snapshots == 1
}
