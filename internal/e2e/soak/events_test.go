package soak

import (
	"bufio"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// eventListener collects the state changes in an instance's event stream.
type eventListener struct {
	mu        sync.Mutex
	changes   map[string][]harness.StateChange // by service; guarded by mu
	snapshots int                              // number of snapshots received; guarded by mu
}

// listen opens the event stream of an instance. It is closed at the end of the test.
func listen(t *testing.T, p *instance) *eventListener {
	t.Helper()
	l := &eventListener{changes: map[string][]harness.StateChange{}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.AdminURL+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := withoutKeepAlive.Do(r)
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
				l.add(name, data)
			}
		}
	}()
	return l
}

func (l *eventListener) add(name, data string) {
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

// changesOf returns the state changes of a service so far. They are complete unless the proxy has sent another snapshot,
// as it does to a listener that missed events.
func (l *eventListener) changesOf(service string) (changes []harness.StateChange, complete bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.changes[service]), l.snapshots == 1
}
