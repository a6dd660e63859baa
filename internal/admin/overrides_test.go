package admin_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"cbproxy/internal/admin"
	"cbproxy/internal/events"
)

const (
	overridesPath  = "/api/v1/circuit-breakers/svc/overrides"
	validOverrides = `{"set": {"timeout": "5s"}, "duration": "30m", "reason": "why"}`
)

func TestOverridesCallProxyAndAreRecorded(t *testing.T) {
	for _, c := range []struct {
		method, path, body string
		err                error
		status             int
		command, action    string
	}{
		{"PUT", "", validOverrides, nil, 200, `svc {"timeout": "5s"} 30m0s why`, "set-overrides"},
		{"PUT", "", `{"set": {"breaker": {"fail_max": 3}}, "duration": 86400}`, nil, 200, `svc {"breaker": {"fail_max": 3}} 24h0m0s `, "set-overrides"},
		{"PUT", "", validOverrides, &admin.NotPersistedError{Err: errors.New("disk full")}, 202, `svc {"timeout": "5s"} 30m0s why`, "set-overrides"},
		{"PUT", "", validOverrides, &admin.InvalidKeysError{Faults: []string{"timeout: must be longer"}}, 400, `svc {"timeout": "5s"} 30m0s why`, "set-overrides"},
		{"PUT", "", validOverrides, admin.ErrUnknownService, 404, `svc {"timeout": "5s"} 30m0s why`, "set-overrides"},
		{"PUT", "", validOverrides, errors.New("no address"), 500, `svc {"timeout": "5s"} 30m0s why`, "set-overrides"},
		{"DELETE", "?reason=done", "", nil, 200, "svc off done", "end-overrides"},
		{"DELETE", "", "", &admin.NotPersistedError{Err: errors.New("disk full")}, 202, "svc off ", "end-overrides"},
		{"DELETE", "", "", errors.New("no address"), 500, "svc off ", "end-overrides"},
	} {
		f := &fakeBackend{token: "secret", overridesErr: c.err}
		h, bus := handler(f)
		sub := bus.Subscribe(10)
		w := adminCall(h, c.method, overridesPath+c.path, c.body)
		if w.Code != c.status || !slices.Equal(f.commands, []string{c.command}) {
			t.Errorf("%s %s: status %d, %s, %q", c.method, c.body, w.Code, w.Body, f.commands)
		}
		var got admin.Overrides
		if err := json.Unmarshal(w.Body.Bytes(), &got); c.status < 300 && (err != nil || len(got.Changes) != 1 || (got.NotPersisted != "") != (c.status == 202)) {
			t.Errorf("%s %s: %s, %v", c.method, c.body, w.Body, err)
		}
		e, _, err := sub.Next(t.Context())
		a, ok := e.(events.AdminAction)
		if !ok || err != nil || a.Action != c.action || a.Service != "svc" || (a.Error != "") != (c.status >= 400) {
			t.Errorf("%s %s: event %+v, %v", c.method, c.body, e, err)
		}
		if c.body == validOverrides && (mustJSON(t, a.Set) != `{"timeout":"5s"}` || a.Duration != "30m0s" || a.Reason != "why") {
			t.Errorf("%s %s: event %+v", c.method, c.body, a)
		}
		sub.Close()
	}
}

// Each body lists all of its faults at once, with those of the values.
func TestSetOverridesReportsAllFaults(t *testing.T) {
	const unknown = "timeout: must be positive, got -1s"
	for body, want := range map[string][]string{
		`{}`:   {`set: must be an object such as {"breaker.fail_max": 10}, but is missing`, "duration: must be a duration of at most 24h0m0s, but is missing"},
		`[]`:   {"the body must be a JSON object such as"},
		`null`: {"the body must be a JSON object such as"},
		`{"set": {"timeout": "-1s"}, "duration": "25h", "reason": 3, "for": 4}`: {
			unknown, `duration: must be a positive duration such as "5m" or a number of seconds, of at most 24h0m0s, got "25h"`,
			"reason: must be a string of at most 1000 characters", "for: unknown key; the keys are set, duration and reason",
		},
		`{"set": {"timeout": "-1s"}, "duration": "1h"}{}`:       {"the body must be a single JSON object", unknown},
		`{"set": {}, "duration": "0s"}`:                         {"set: must have at least one key, got {}", "duration: "},
		`{"set": {"breaker": {}}, "duration": -1}`:              {`set: must have at least one key, got {"breaker": {}}`, "duration: "},
		`{"set": ["timeout"], "duration": true}`:                {`set: must be an object such as {"breaker.fail_max": 10}, got ["timeout"]`, "duration: "},
		`{"set": null, "duration": null, "reason": ["a", "b"]}`: {"set: must be an object", "duration: ", "reason: "},
	} {
		f := &fakeBackend{token: "secret", invalidSet: []string{unknown}}
		h, _ := handler(f)
		w := adminCall(h, "PUT", overridesPath, body)
		checkFaults(t, body, w, want)
		if len(f.commands) > 0 {
			t.Errorf("%s: %q", body, f.commands)
		}
	}
}

func TestOverridesRefuseRequests(t *testing.T) {
	const none = "/api/v1/circuit-breakers/none/overrides"
	for name, c := range map[string]struct {
		method, path, body string
		header             []string
		backend            *fakeBackend
		status             int
	}{
		"no token":              {"PUT", overridesPath, validOverrides, []string{"Authorization", ""}, &fakeBackend{token: "secret"}, 401},
		"wrong token":           {"DELETE", overridesPath, "", []string{"Authorization", "Bearer other"}, &fakeBackend{token: "secret"}, 401},
		"no token configured":   {"PUT", overridesPath, validOverrides, nil, &fakeBackend{}, 403},
		"read needs no token":   {"GET", overridesPath, "", []string{"Authorization", ""}, &fakeBackend{token: "secret"}, 200},
		"HEAD":                  {"HEAD", overridesPath, "", nil, &fakeBackend{token: "secret"}, 200},
		"protected read":        {"GET", overridesPath, "", []string{"Authorization", ""}, &fakeBackend{token: "secret", protect: true}, 401},
		"unknown service":       {"PUT", none, validOverrides, nil, &fakeBackend{token: "secret"}, 404},
		"unknown service, read": {"GET", none, "", nil, &fakeBackend{token: "secret"}, 404},
		"unknown service, end":  {"DELETE", none, "", nil, &fakeBackend{token: "secret"}, 404},
		"method":                {"POST", overridesPath, validOverrides, nil, &fakeBackend{token: "secret"}, 405},
		"body too large":        {"PUT", overridesPath, validOverrides + strings.Repeat(" ", 64<<10), nil, &fakeBackend{token: "secret"}, 413},
		"content type":          {"PUT", overridesPath, validOverrides, []string{"Content-Type", "text/plain"}, &fakeBackend{token: "secret"}, 415},
		"reason too long":       {"DELETE", overridesPath + "?reason=" + strings.Repeat("x", 1001), "", nil, &fakeBackend{token: "secret"}, 400},
	} {
		h, _ := handler(c.backend)
		w := adminCall(h, c.method, c.path, c.body, c.header...)
		if w.Code != c.status || len(c.backend.commands) > 0 {
			t.Errorf("%s: status %d, %s, %q", name, w.Code, w.Body, c.backend.commands)
		}
		if c.status >= 400 && w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %v", name, w.Header())
		}
	}
	h, _ := handler(&fakeBackend{token: "secret"})
	w := adminCall(h, http.MethodPatch, overridesPath, "")
	if allow := w.Header().Get("Allow"); allow != "GET, HEAD, DELETE, PUT" || w.Code != 405 {
		t.Errorf("status %d, Allow: %s", w.Code, allow)
	}
}
