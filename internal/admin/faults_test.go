package admin_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/fault"
)

const faultsPath = "/api/v1/circuit-breakers/svc/faults"

// adminCall sends a request with the token and a JSON body, and returns the response.
func adminCall(h http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer secret")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestInjectFaultCallsProxy(t *testing.T) {
	for body, want := range map[string]events.Fault{
		`{"kind": "abort", "status": 503, "delay": "2s", "share": 0.2, "duration": "5m", "match": {"header": "X-Test", "value": "1"}, "reason": "…"}`: {
			Kind: events.FaultAbort, Status: 503, Share: 0.2, Duration: events.Duration(5 * time.Minute),
			Match: &events.FaultMatch{Header: "X-Test", Value: "1"}, Reason: "…",
		},
		`{"kind":"abort","duration":"1h"}`:                                     {Kind: events.FaultAbort, Status: 503, Share: 1, Duration: events.Duration(time.Hour)},
		`{"kind":"delay","delay":1.5,"duration":60,"status":200}`:              {Kind: events.FaultDelay, Delay: events.Duration(1500 * time.Millisecond), Share: 1, Duration: events.Duration(time.Minute)},
		`{"kind":"reset","duration":"1s","delay":"10m","share":1}`:             {Kind: events.FaultReset, Share: 1, Duration: events.Duration(time.Second)},
		`{"kind":"cut","duration":"1s","match":{"header":"x-t"},"share":1e-9}`: {Kind: events.FaultCut, Share: 1e-9, Duration: events.Duration(time.Second), Match: &events.FaultMatch{Header: "x-t"}},
	} {
		f := &fakeBackend{token: "secret"}
		h, bus := handler(f)
		sub := bus.Subscribe(10)
		w := adminCall(h, "POST", faultsPath, body)
		var got events.Fault
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusCreated || w.Header().Get("Location") != faultsPath+"/f1" {
			t.Errorf("%s: status %d, %s, %v", body, w.Code, w.Body, err)
		}
		want.ID = "f1"
		if text, wantText := mustJSON(t, got), mustJSON(t, want); text != wantText {
			t.Errorf("%s:\ngot  %s\nwant %s", body, text, wantText)
		}
		e, _, err := sub.Next(t.Context())
		if a, ok := e.(events.AdminAction); !ok || err != nil || a.Action != "inject-fault" || a.Fault != "f1" || a.Kind != want.Kind || a.Share != want.Share || a.Service != "svc" || a.Error != "" {
			t.Errorf("%s: event %+v, %v", body, e, err)
		}
		sub.Close()
	}
}

// checkFaults checks that w, the response to a body, is 400 and lists as many faults as there are in want, which has a part of each.
func checkFaults(t *testing.T, body string, w *httptest.ResponseRecorder, want []string) {
	t.Helper()
	var problem struct{ Faults []string }
	if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil || w.Code != 400 || len(problem.Faults) != len(want) {
		t.Errorf("%s: status %d, %s, %v", body, w.Code, w.Body, err)
	}
	for _, part := range want {
		if !strings.Contains(strings.Join(problem.Faults, "\n"), part) {
			t.Errorf("%s: %q, want %q", body, problem.Faults, part)
		}
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Each body lists all of its faults at once.
func TestInjectFaultReportsAllFaults(t *testing.T) {
	for body, want := range map[string][]string{
		`{}`:                            {`kind: must be "abort", "delay", "reset" or "cut", but is missing`, "duration: must be a duration of at most 1h0m0s, but is missing"},
		`[]`:                            {"the body must be a JSON object such as"},
		`null`:                          {"the body must be a JSON object such as"},
		`{"kind":"cut","duration":1}{}`: {"the body must be a single JSON object"},
		`{"kind":"break","status":99,"delay":"11m","share":0,"duration":"61m","match":{"value":1,"x":2},"reason":3,"for":4}`: {
			`kind: must be "abort", "delay", "reset" or "cut", got "break"`, "status: must be a whole number from 200 to 599, got 99",
			`delay: must be a positive duration such as "5m" or a number of seconds, of at most 10m0s, got "11m"`,
			"share: must be a number above 0 and at most 1, got 0", `duration: must be a positive duration such as "5m" or a number of seconds, of at most 1h0m0s, got "61m"`,
			"match.header: must be the name of a header field, but is missing", "match.value: must be a string that a header field can have, got 1",
			"match.x: unknown key; the keys are header and value", "reason: must be a string of at most 1000 characters",
			"for: unknown key; the keys are kind, status, delay, share, duration, match and reason",
		},
		`{"kind":"delay","duration":"1m"}`:                                                   {"delay: must be a duration of at most 10m0s, but is missing"},
		`{"kind":null,"status":null,"delay":null,"share":null,"duration":null,"match":null}`: {"kind:", "status:", "delay:", "share:", "duration:", "match:"},
		`{"kind":1,"status":"503","delay":true,"share":"1","duration":[],"match":"X-Test"}`:  {"kind:", "status:", "delay:", "share:", "duration:", "match:"},
		`{"kind":"abort","status":503.5,"share":1.01,"duration":0,"match":{"header":"a b"}}`: {"status:", "share:", "duration:", "match.header:"},
		`{"kind":"abort","status":600,"share":-1,"duration":-5,"match":{"header":"host"}}`:   {"status:", "share:", "duration:", "match.header:"},
		`{"kind":"abort","duration":"1m","match":{"header":"a","value":"b\r\nc"}}`:           {"match.value:"},
		`{"kind":"Abort","duration":"","reason":"` + strings.Repeat("x", 1001) + `"}`:        {"kind:", "duration:", "reason:"},
	} {
		f := &fakeBackend{token: "secret"}
		h, _ := handler(f)
		w := adminCall(h, "POST", faultsPath, body)
		checkFaults(t, body, w, want)
		if len(f.commands) > 0 {
			t.Errorf("%s: %q", body, f.commands)
		}
	}
}

func TestFaultsRefuseRequests(t *testing.T) {
	const valid = `{"kind":"reset","duration":"1m"}`
	for name, c := range map[string]struct {
		method, path, body string
		header             []string
		backend            *fakeBackend
		status             int
	}{
		"no token":                 {"POST", faultsPath, valid, []string{"Authorization", ""}, &fakeBackend{token: "secret"}, 401},
		"wrong token":              {"DELETE", faultsPath + "/f1", "", []string{"Authorization", "Bearer other"}, &fakeBackend{token: "secret"}, 401},
		"no token configured":      {"POST", faultsPath, valid, nil, &fakeBackend{}, 403},
		"read needs no token":      {"GET", faultsPath, "", []string{"Authorization", ""}, &fakeBackend{token: "secret", faults: []events.Fault{}}, 200},
		"HEAD":                     {"HEAD", faultsPath, "", nil, &fakeBackend{token: "secret", faults: []events.Fault{}}, 200},
		"protected read":           {"GET", faultsPath, "", []string{"Authorization", ""}, &fakeBackend{token: "secret", protect: true}, 401},
		"unknown service":          {"POST", "/api/v1/circuit-breakers/none/faults", valid, nil, &fakeBackend{token: "secret"}, 404},
		"unknown service, list":    {"GET", "/api/v1/circuit-breakers/none/faults", "", nil, &fakeBackend{token: "secret"}, 404},
		"unknown service, end":     {"DELETE", "/api/v1/circuit-breakers/none/faults/f1", "", nil, &fakeBackend{token: "secret"}, 404},
		"unknown fault":            {"DELETE", faultsPath + "/f9", "", nil, &fakeBackend{token: "secret", faultErr: fault.ErrUnknown}, 404},
		"service removed":          {"POST", faultsPath, valid, nil, &fakeBackend{token: "secret", faultErr: fault.ErrClosed}, 404},
		"too many":                 {"POST", faultsPath, valid, nil, &fakeBackend{token: "secret", faultErr: fault.ErrTooMany}, 409},
		"method of the collection": {"DELETE", faultsPath, "", nil, &fakeBackend{token: "secret"}, 405},
		"method of a fault":        {"GET", faultsPath + "/f1", "", nil, &fakeBackend{token: "secret"}, 405},
		"body too large":           {"POST", faultsPath, valid + strings.Repeat(" ", 64<<10), nil, &fakeBackend{token: "secret"}, 413},
		"content type":             {"POST", faultsPath, valid, []string{"Content-Type", "text/plain"}, &fakeBackend{token: "secret"}, 415},
		"reason too long":          {"DELETE", faultsPath + "/f1?reason=" + strings.Repeat("x", 1001), "", nil, &fakeBackend{token: "secret"}, 400},
	} {
		h, _ := handler(c.backend)
		w := adminCall(h, c.method, c.path, c.body, c.header...)
		if w.Code != c.status {
			t.Errorf("%s: status %d, %s", name, w.Code, w.Body)
		}
		if c.status >= 400 && w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %v", name, w.Header())
		}
		if c.backend.faultErr == nil && len(c.backend.commands) > 0 {
			t.Errorf("%s: %q", name, c.backend.commands)
		}
	}
	h, _ := handler(&fakeBackend{token: "secret"})
	if allow := adminCall(h, "PUT", faultsPath, "").Header().Get("Allow"); allow != "GET, HEAD, POST" {
		t.Errorf("Allow: %s", allow)
	}
}

func TestEndFaultIsRecorded(t *testing.T) {
	for _, failure := range []error{nil, errors.New("unknown")} {
		f := &fakeBackend{token: "secret", faultErr: failure}
		h, bus := handler(f)
		sub := bus.Subscribe(10)
		w := adminCall(h, "DELETE", faultsPath+"/f7?reason=done", "")
		if (w.Code == 200) != (failure == nil) || len(f.commands) != 1 || f.commands[0] != "svc f7 done" {
			t.Errorf("status %d, %q", w.Code, f.commands)
		}
		e, _, err := sub.Next(t.Context())
		if a, ok := e.(events.AdminAction); !ok || err != nil || a.Action != "end-fault" || a.Fault != "f7" || a.Reason != "done" || (a.Error == "") != (failure == nil) {
			t.Errorf("event %+v, %v", e, err)
		}
		sub.Close()
	}
}
