package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/admin"
	"cbproxy/internal/events"
)

// fakeQueues has the queues a, b and c. Queue a contains a.1, a.2 and the dead a.3; queue b contains b.1; c is empty.
type fakeQueues struct {
	commands []string // the calls of Retry and Drop
	err      error    // the result of all methods
}

func (f *fakeQueues) Status() map[string]events.QueueStatus {
	oldest := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return map[string]events.QueueStatus{"a": {Waiting: 2, Dead: 1, Oldest: &oldest, Accepted: 3}, "b": {Waiting: 1}, "c": {}}
}

func (f *fakeQueues) List(service, state, after string, limit int) ([]events.QueuedRequest, error) {
	all := []events.QueuedRequest{
		{ID: "a.1", Service: "a", State: "waiting", Method: "POST", Path: "/a"}, {ID: "a.2", Service: "a", State: "waiting"},
		{ID: "a.3", Service: "a", State: "dead", Cause: "refused"}, {ID: "b.1", Service: "b", State: "waiting"},
	}
	all = slices.DeleteFunc(all, func(r events.QueuedRequest) bool { return r.Service != service || r.State != state || r.ID <= after })
	return all[:min(len(all), limit)], f.err
}

func (f *fakeQueues) Retry(_ context.Context, id string) (events.QueuedRequest, error) {
	f.commands = append(f.commands, "retry "+id)
	return events.QueuedRequest{ID: id, State: "waiting"}, f.err
}

func (f *fakeQueues) Drop(id string) (events.QueuedRequest, error) {
	f.commands = append(f.commands, "drop "+id)
	return events.QueuedRequest{ID: id, State: "dead"}, f.err
}

func TestQueueListsRequests(t *testing.T) {
	for query, want := range map[string]string{
		"":                                   "a.1 a.2 a.3 b.1",
		"?limit=3":                           "a.1 a.2 a.3 …",
		"?limit=4":                           "a.1 a.2 a.3 b.1",
		"?service=a":                         "a.1 a.2 a.3",
		"?state=dead":                        "a.3",
		"?service=a&state=waiting":           "a.1 a.2",
		"?service=a&state=waiting&limit=1":   "a.1 …",
		"?service=a&state=waiting&after=a.1": "a.2",
		"?service=c":                         "",
	} {
		h, _ := handler(&fakeBackend{queues: &fakeQueues{}})
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/queue"+query, nil))
		var answer struct {
			Queues   map[string]events.QueueStatus
			Requests []events.QueuedRequest
			More     bool
		}
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != 200 || len(answer.Queues) != 3 || answer.Requests == nil {
			t.Errorf("%s: %d, %s", query, w.Code, w.Body)
		}
		var ids []string
		for _, r := range answer.Requests {
			ids = append(ids, r.ID)
		}
		if answer.More {
			ids = append(ids, "…")
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}

func TestQueueReportsAllFaultsOfQuery(t *testing.T) {
	h, _ := handler(&fakeBackend{queues: &fakeQueues{}})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/queue?service=x&state=gone&limit=0", nil))
	for _, fault := range []string{`service: must be a service with a queue, got \"x\"`, `state: must be waiting or dead, got \"gone\"`, `limit: must be from 1 to 1000, got \"0\"`} {
		if w.Code != 400 || !strings.Contains(w.Body.String(), fault) {
			t.Errorf("%d %s, want %s", w.Code, w.Body, fault)
		}
	}
	w = httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/queue?after=a.1", nil))
	if w.Code != 400 || !strings.Contains(w.Body.String(), "after: requires") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestRetryAndDropQueuedRequests(t *testing.T) {
	for name, c := range map[string]struct {
		method, path, token string
		err                 error
		status              int
		command             string
	}{
		"retry":             {"POST", "a.1/retry", "secret", nil, 200, "retry a.1"},
		"drop":              {"DELETE", "a.1", "secret", nil, 200, "drop a.1"},
		"unknown":           {"DELETE", "a.9", "secret", admin.ErrUnknownRequest, 404, "drop a.9"},
		"in flight":         {"DELETE", "a.1", "secret", admin.ErrInFlight, 409, "drop a.1"},
		"disk":              {"POST", "a.1/retry", "secret", errors.New("no space left"), 500, "retry a.1"},
		"no token":          {"DELETE", "a.1", "", nil, 401, ""},
		"wrong token":       {"POST", "a.1/retry", "other", nil, 401, ""},
		"retry needs POST":  {"GET", "a.1/retry", "secret", nil, 405, ""},
		"drop needs DELETE": {"POST", "a.1", "secret", nil, 405, ""},
	} {
		queues := &fakeQueues{err: c.err}
		h, _ := handler(&fakeBackend{token: "secret", queues: queues})
		r := httptest.NewRequest(c.method, "/api/v1/queue/"+c.path, nil)
		if c.token != "" {
			r.Header.Set("Authorization", "Bearer "+c.token)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := strings.Join(queues.commands, ", "); w.Code != c.status || got != c.command {
			t.Errorf("%s: %d %s, commands %q", name, w.Code, w.Body, got)
		}
	}
}

// hungQueues simulates a disk that hangs until release is closed.
type hungQueues struct {
	fakeQueues
	release chan struct{}
}

func (h *hungQueues) Retry(context.Context, string) (events.QueuedRequest, error) {
	<-h.release
	return events.QueuedRequest{}, nil
}

func (h *hungQueues) Drop(string) (events.QueuedRequest, error) {
	return h.Retry(context.Background(), "")
}

func TestRetryAndDropTimeOutIfDiskHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &hungQueues{release: make(chan struct{})}
		defer close(q.release)
		h, _ := handler(&fakeBackend{token: "secret", queues: q})
		for method, path := range map[string]string{http.MethodPost: "/api/v1/queue/a.1/retry", http.MethodDelete: "/api/v1/queue/a.1"} {
			r := httptest.NewRequest(method, path, nil)
			r.Header.Set("Authorization", "Bearer secret")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "has not responded within 10s") {
				t.Errorf("%s: status %d, %s", method, w.Code, w.Body)
			}
		}
	})
}
