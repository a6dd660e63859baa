package admin_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestTrendsRejectInvalidQuery(t *testing.T) {
	h, _ := handler(&fakeBackend{})
	for _, query := range []string{"?after=now", "?after=1.5", "?service=none"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/trends"+query, nil))
		if w.Code != 400 || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: status %d: %s", query, w.Code, w.Body)
		}
	}
}
