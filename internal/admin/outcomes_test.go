package admin_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/events"
)

func getOutcomes(f *fakeBackend, query string) *httptest.ResponseRecorder {
	h, _ := handler(f)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/outcomes"+query, nil))
	return w
}

func TestOutcomesAreLinesOfJSON(t *testing.T) {
	f := &fakeBackend{calls: []events.Call{{
		Time: time.Date(2026, 1, 1, 0, 0, 0, 1500, time.UTC), Result: events.ResultFailure, Status: 503, ErrorType: events.ErrorStatus,
		Duration: 12250 * time.Microsecond,
	}}}
	w := getOutcomes(f, "?service=svc&since=24h&until=2030-01-01T00:00:00Z")
	want := `{"time":"2026-01-01T00:00:00.000001500Z","service":"svc","outcome":"failure","status":503,"error_type":"status","duration_ms":12.25}` + "\n"
	if got := w.Body.String(); w.Code != http.StatusOK || got != want {
		t.Errorf("%d, %s, want %s", w.Code, got, want)
	}
	for _, query := range []string{"?since=x", "?until=-1h", "?since=2026-13-01T00:00:00Z"} {
		if w := getOutcomes(f, query); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "must be a time such as") {
			t.Errorf("%s: %d, %s", query, w.Code, w.Body)
		}
	}
	if w := getOutcomes(f, "?service=none"); w.Code != http.StatusNotFound {
		t.Errorf("an unknown service: %d", w.Code)
	}
}

// An error before the first line is a response; after it, the connection ends, so that the client does not take it for the end.
func TestFailedOutcomesAreNotTakenForTheEnd(t *testing.T) {
	f := &fakeBackend{callsErr: errors.New("disk error")}
	if w := getOutcomes(f, ""); w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "disk error") {
		t.Errorf("%d, %s", w.Code, w.Body)
	}
	f.calls = make([]events.Call, 10_000)
	h, _ := handler(f)
	server := httptest.NewServer(h)
	defer server.Close()
	f.hosts = []string{"*"}
	res, err := http.Get(server.URL + "/api/v1/outcomes")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, res.Body); err == nil {
		t.Errorf("the response of %d bytes ends as if it were complete", n)
	}
}
