package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/admin"
	"cbproxy/internal/events"
	"cbproxy/internal/trends"
)

// status returns the status of a GET request with the given Host. fields are names and values of header fields.
func status(h http.Handler, path, host string, fields ...string) int {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Host = host
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

func TestHostMustBePrivateOrConfigured(t *testing.T) {
	const path = "/api/v1/circuit-breakers/health"
	h, _ := handler(&fakeBackend{hosts: []string{"CBProxy.example.com"}})
	for host, want := range map[string]int{
		"127.0.0.1:9901": 200, "127.0.0.1": 200, "[::1]:9901": 200, "[::1]": 200, "10.2.3.4:80": 200, "": 200,
		"localhost:9901": 200, "LOCALHOST.": 200, "cbproxy:9901": 200, "a.localhost": 200, "cbproxy.prod.svc:9901": 200,
		"cbproxy.prod.svc.cluster.local": 200, "host.docker.internal:9901": 200, "box.local": 200, "cbproxy.example.com:9901": 200,
		"example.com": 403, "evil.example:9901": 403, "localhost.evil.example": 403, "127.0.0.1.evil.example": 403, "xlocal.com": 403,
		"internal.com": 403, "sub.cbproxy.example.com": 403,
	} {
		if got := status(h, path, host); got != want {
			t.Errorf("%q: status %d, want %d", host, got, want)
		}
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if got := status(h, path, "evil.example"); got != 200 {
			t.Errorf("%s with another host name: status %d", path, got)
		}
	}
	allowAll, _ := handler(&fakeBackend{hosts: []string{"*"}})
	if got := status(allowAll, path, "evil.example"); got != 200 {
		t.Errorf("hosts *: status %d", got)
	}
}

func TestPagesOfOtherOriginsAreRejected(t *testing.T) {
	h, _ := handler(&fakeBackend{})
	for _, c := range []struct {
		want   int
		fields []string
	}{
		{200, nil},
		{200, []string{"Origin", "http://127.0.0.1:9901"}},
		{200, []string{"Sec-Fetch-Site", "same-origin"}},
		{200, []string{"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate"}},
		{200, []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}}, // a link
		{403, []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}},
		{403, []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "cors"}}, // another port
		{403, []string{"Origin", "http://127.0.0.1:8080"}},
		{403, []string{"Origin", "null"}},
		{403, []string{"Origin", "https://evil.example"}},
	} {
		if got := status(h, "/api/v1/config", "127.0.0.1:9901", c.fields...); got != c.want {
			t.Errorf("%q: status %d, want %d", c.fields, got, c.want)
		}
	}
}

func TestUnreadableTokenIsLoggedOnce(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	f := &fakeBackend{token: "secret"}
	h := admin.New(admin.Config{Backend: f, Bus: new(events.Bus), Trends: trends.New(nil, nil), Metrics: http.NotFoundHandler(), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	force := func() string {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, post(`{"state":"open"}`))
		return w.Body.String()
	}
	for range 2 {
		f.token, f.tokenErr = "", errors.New("open /run/token: permission denied")
		for range 20 {
			if text := force(); !strings.Contains(text, "cannot read its admin token") || strings.Contains(text, "/run") {
				t.Fatalf("response: %s", text)
			}
		}
		f.token, f.tokenErr = "secret", nil
		for range 3 {
			if text := force(); !strings.Contains(text, "service_name") {
				t.Fatalf("with a readable token: %s", text)
			}
		}
	}
	var logged []string
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "admin token") {
			logged = append(logged, line)
		}
	}
	if len(logged) != 4 || !strings.Contains(logged[0], "level=ERROR") || !strings.Contains(logged[2], "permission denied") || !strings.Contains(logged[3], "readable again") {
		t.Errorf("%d lines: %s", len(logged), logged)
	}
}

func TestWrongTokensAreLimitedByAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeBackend{token: "secret"}
		var log bytes.Buffer
		h := admin.New(admin.Config{Backend: f, Bus: new(events.Bus), Metrics: http.NotFoundHandler(), Logger: slog.New(slog.NewTextHandler(&log, nil))})
		send := func(address, token string) *httptest.ResponseRecorder {
			r := post(`{"state":"open"}`, "Authorization", token)
			r.RemoteAddr = address
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w
		}
		const limited, other = "192.0.2.1:1000", "192.0.2.2:1000"
		start := time.Now()
		for i := range 20 {
			if w := send(limited, "Bearer guessed-it"); w.Code != 401 {
				t.Fatalf("wrong token %d: status %d", i, w.Code)
			}
		}
		for i := range 10 { // one at a time, 100 per second
			w := send("192.0.2.1:2000", "Bearer guessed-it")
			if w.Code != 429 || w.Header().Get("Retry-After") != "1" {
				t.Errorf("wrong token %d after the burst: status %d, Retry-After %q", i, w.Code, w.Header().Get("Retry-After"))
			}
		}
		if took := time.Since(start); took != 90*time.Millisecond {
			t.Errorf("ten wrong tokens after the burst took %v", took)
		}
		if w := send(other, "Bearer secret"); w.Code != 200 || time.Since(start) != 90*time.Millisecond {
			t.Errorf("another address: status %d after %v", w.Code, time.Since(start))
		}
		if w := send(limited, "Bearer secret"); w.Code != 200 || time.Since(start) != 100*time.Millisecond {
			t.Errorf("right token: status %d after %v", w.Code, time.Since(start))
		}
		start = time.Now()
		codes := make(chan [2]int, 100)
		for i := range cap(codes) { // concurrently, every fourth with the right token
			go func() {
				if i%4 == 0 {
					codes <- [2]int{200, send(limited, "Bearer secret").Code}
				} else {
					codes <- [2]int{429, send(limited, "Bearer guessed-it").Code}
				}
			}()
			synctest.Wait()
		}
		if n := len(codes); n > 1 {
			t.Errorf("%d of 100 concurrent requests did not wait", n)
		}
		for range cap(codes) {
			if code := <-codes; code[0] != code[1] {
				t.Errorf("concurrent request: status %d, want %d", code[1], code[0])
			}
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("100 concurrent requests took %v", took)
		}
		time.Sleep(time.Minute)
		if w := send(limited, "Bearer guessed-it"); w.Code != 401 {
			t.Errorf("wrong token a minute later: status %d", w.Code)
		}
		for i := range 100 { // a request without a token does not count
			if w := send(other, ""); w.Code != 401 {
				t.Fatalf("request %d without a token: status %d", i, w.Code)
			}
		}
		for i := range 25 { // an IPv6 client may use a whole /64 network
			want := 401
			if i >= 20 {
				want = 429
			}
			if w := send("[2001:db8::"+string(rune('a'+i%6))+"]:1", "Bearer guessed-it"); w.Code != want {
				t.Errorf("wrong token %d of an IPv6 network: status %d", i, w.Code)
			}
		}
		if text := log.String(); strings.Contains(text, "guessed-it") || strings.Count(text, "action=refused") != 20+1+20 || strings.Count(text, "more_are_not_logged=true") != 2 {
			t.Errorf("log:\n%s", text)
		}
	})
}

// TestDisconnectedClientsDoNotDelayComparisons also checks that a body is complete after its request has waited.
func TestDisconnectedClientsDoNotDelayComparisons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeBackend{token: "secret"}
		h, _ := handler(f)
		send := func(ctx context.Context, token string) int {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, post(`{"state":"closed","reason":"whole"}`, "Authorization", "Bearer "+token).WithContext(ctx))
			return w.Code
		}
		for range 20 {
			send(t.Context(), "guessed-it")
		}
		ctx, disconnect := context.WithCancel(t.Context())
		codes := make(chan int, 1000)
		for range cap(codes) {
			go func() { codes <- send(ctx, "guessed-it") }()
		}
		synctest.Wait()
		disconnect()
		synctest.Wait()
		start := time.Now()
		if code := send(t.Context(), "secret"); code != 200 || time.Since(start) > 10*time.Millisecond {
			t.Errorf("status %d after %v", code, time.Since(start))
		}
		if len(f.commands) != 1 || f.commands[0] != "svc closed 0s whole" {
			t.Errorf("commands %q", f.commands)
		}
		for range cap(codes) {
			if code := <-codes; code == 200 {
				t.Error("a disconnected client was authorized")
			}
		}
	})
}

func TestWritesPublishAdminActions(t *testing.T) {
	f := &fakeBackend{token: "secret"}
	h, bus := handler(f)
	sub := bus.Subscribe(16)
	defer sub.Close()
	do := func(path, body string) {
		r := post(body)
		r.URL.Path, r.RemoteAddr = path, "192.0.2.9:99"
		if path, query, ok := strings.Cut(path, "?"); ok {
			r.URL.Path, r.URL.RawQuery = path, query
		}
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	do(force, `{"state":"open","duration":"10m","reason":"drill"}`)
	f.forceErr = http.ErrAbortHandler
	do(force, `{"state":"auto","scope":"fleet"}`)
	do("/api/v1/config/reload?reason=new+limits", "")
	for _, want := range []string{
		`{"action":"force-state","remote":"192.0.2.9:99","service":"svc","state":"open","duration":"10m0s","scope":"instance","reason":"drill"}`,
		`{"action":"force-state","remote":"192.0.2.9:99","service":"svc","state":"auto","scope":"fleet","error":"net/http: abort Handler"}`,
		`{"action":"reload","remote":"192.0.2.9:99","reason":"new limits","error":"a.yaml:1:1: x: y"}`,
	} {
		e, _, err := sub.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		published, ok := e.(events.AdminAction)
		if !ok || time.Since(published.Time) > time.Minute {
			t.Fatalf("event %+v", e)
		}
		published.Time = time.Time{}
		text, _ := json.Marshal(published)
		if got := strings.Replace(string(text), `"time":"0001-01-01T00:00:00Z",`, "", 1); got != want {
			t.Errorf("got event %s\nwant %s", got, want)
		}
	}
}
