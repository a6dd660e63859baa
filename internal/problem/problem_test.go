package problem_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/problem"
)

func TestWriteSetsTheProblemFields(t *testing.T) {
	w := httptest.NewRecorder()
	w.Header().Set("X-Other", "kept")
	problem.New(http.StatusMethodNotAllowed, "http_request_denied", "no such method").WithAllow("GET, HEAD").Write(w)
	res := w.Result()
	want := http.Header{
		"X-Other":        {"kept"},
		"Content-Type":   {"application/problem+json"},
		"Content-Length": {"90"},
		"Proxy-Status":   {"cbproxy; error=http_request_denied"},
		"Allow":          {"GET, HEAD"},
	}
	for name, values := range want {
		if got := res.Header.Get(name); got != values[0] {
			t.Errorf("%s is %q, want %q", name, got, values[0])
		}
	}
	if body := w.Body.String(); body != `{"type":"about:blank","title":"Method Not Allowed","status":405,"detail":"no such method"}` {
		t.Error(body)
	}
	if res.StatusCode != http.StatusMethodNotAllowed {
		t.Error(res.StatusCode)
	}
}

func TestWithAllowLeavesTheOriginalUnchanged(t *testing.T) {
	p := problem.New(http.StatusMethodNotAllowed, "http_request_denied", "no such method")
	p.WithAllow("GET")
	w := httptest.NewRecorder()
	p.Write(w)
	if allow, ok := w.Header()["Allow"]; ok {
		t.Error(allow)
	}
}

func TestAppendHTTP1IsACompleteResponse(t *testing.T) {
	date := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b := problem.HeadersTooLarge.AppendHTTP1(nil, date)
	r := bufio.NewReader(strings.NewReader(string(b)))
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || r.Buffered() > 0 {
		t.Fatalf("%s: %v, then %d bytes", body, err, r.Buffered())
	}
	var parsed struct{ Status int }
	if err := json.Unmarshal(body, &parsed); err != nil || parsed.Status != 431 || res.StatusCode != 431 {
		t.Errorf("status %d: %s: %v", res.StatusCode, body, err)
	}
	if !res.Close || res.Header.Get("Date") != "Fri, 02 Jan 2026 03:04:05 GMT" || res.Header.Get("Proxy-Status") != "cbproxy; error=http_request_error" {
		t.Error(res.Header)
	}
}

func TestBodyListsErrors(t *testing.T) {
	if b := problem.Body(400, "two errors", "a", "b"); string(b) != `{"type":"about:blank","title":"Bad Request","status":400,"detail":"two errors","faults":["a","b"]}` {
		t.Errorf("%s", b)
	}
}
