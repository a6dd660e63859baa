package admin_test

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"cbproxy/internal/admin"
	"cbproxy/internal/breaker/keyed"
	"cbproxy/internal/events"
)

func TestForceStateOfAKey(t *testing.T) {
	f := &fakeBackend{token: "secret"}
	h, bus := handler(f)
	sub := bus.Subscribe(10)
	defer sub.Close()
	for body, want := range map[string]string{
		`{"state":"open","key":"tenant é","duration":"10m","reason":"why"}`: "svc tenant é open 10m0s why",
		`{"state":"auto","key":"tenant é","scope":"instance"}`:              "svc tenant é auto ",
	} {
		f.commands = nil
		w := httptest.NewRecorder()
		h.ServeHTTP(w, post(body))
		var k admin.Key
		if err := json.Unmarshal(w.Body.Bytes(), &k); err != nil || w.Code != 200 || k.Key != "tenant é" || k.Service != "svc" {
			t.Errorf("%s: status %d, %s, %v", body, w.Code, w.Body, err)
		}
		if len(f.commands) != 1 || f.commands[0] != want {
			t.Errorf("%s: commands %q, want %q", body, f.commands, want)
		}
		e, _, err := sub.Next(t.Context())
		if err != nil || e.(events.AdminAction).Scope != "key" || strings.Contains(mustJSON(t, e), "tenant") {
			t.Errorf("%s: event %+v, error %v", body, e, err)
		}
	}
}

func TestForceStateOfAKeyIsRefused(t *testing.T) {
	for err, status := range map[error]int{keyed.ErrClosed: 400, keyed.ErrInvalidKey: 400, keyed.ErrAllForced: 409} {
		f := &fakeBackend{token: "secret", keyErr: err}
		h, _ := handler(f)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, post(`{"state":"open","key":"a"}`))
		if w.Code != status || !strings.Contains(w.Body.String(), err.Error()) {
			t.Errorf("%v: status %d, %s", err, w.Code, w.Body)
		}
	}
}

func TestKeysAreListed(t *testing.T) {
	for _, protect := range []bool{false, true} {
		h, _ := handler(&fakeBackend{token: "secret", protect: protect})
		w := adminCall(h, "GET", "/api/v1/circuit-breakers/svc/keys", "", "Authorization", "")
		if protect {
			if w.Code != 401 {
				t.Errorf("status %d without a token", w.Code)
			}
			continue
		}
		var list admin.KeyList
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || w.Code != 200 || list.Header != "X-Tenant" || list.Keys[0].Key != "<b>" {
			t.Errorf("status %d, %s, %v", w.Code, w.Body, err)
		}
	}
	h, _ := handler(&fakeBackend{})
	if w := adminCall(h, "GET", "/api/v1/circuit-breakers/other/keys", ""); w.Code != 404 {
		t.Errorf("status %d", w.Code)
	}
}
