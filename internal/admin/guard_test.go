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
)

// status asks for a path as the host name given, with fields as name, value, name, value.
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

func TestOnlyNamesThatAreOursAreAnswered(t *testing.T) {
	const path = "/api/v1/circuit-breakers/health"
	known, _ := handler(&fake{hosts: []string{"CBProxy.example.com"}})
	for host, want := range map[string]int{
		"127.0.0.1:9901": 200, "127.0.0.1": 200, "[::1]:9901": 200, "[::1]": 200, "10.2.3.4:80": 200, "": 200,
		"localhost:9901": 200, "LOCALHOST.": 200, "cbproxy:9901": 200, "a.localhost": 200, "cbproxy.prod.svc:9901": 200,
		"cbproxy.prod.svc.cluster.local": 200, "host.docker.internal:9901": 200, "box.local": 200, "cbproxy.example.com:9901": 200,
		"example.com": 403, "evil.example:9901": 403, "localhost.evil.example": 403, "127.0.0.1.evil.example": 403, "xlocal.com": 403,
		"internal.com": 403, "sub.cbproxy.example.com": 403,
	} {
		if got := status(known, path, host); got != want {
			t.Errorf("%q: status %d, want %d", host, got, want)
		}
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if got := status(known, path, "evil.example"); got != 200 {
			t.Errorf("%s by another name: status %d", path, got)
		}
	}
	anyName, _ := handler(&fake{hosts: []string{"*"}})
	if got := status(anyName, path, "evil.example"); got != 200 {
		t.Errorf("with *: status %d", got)
	}
}

func TestPagesOfOtherOriginsReadNothing(t *testing.T) {
	h, _ := handler(&fake{})
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
	f := &fake{token: "secret"}
	h := admin.New(admin.Config{Proxy: f, Bus: new(events.Bus), Trends: admin.NewTrends(nil), Metrics: http.NotFoundHandler(), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	ask := func() string {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, post(`{"state":"open"}`))
		return w.Body.String()
	}
	for range 2 {
		f.token, f.tokenErr = "", errors.New("open /run/token: permission denied")
		for range 20 {
			if text := ask(); !strings.Contains(text, "cannot read its token") || strings.Contains(text, "/run") {
				t.Fatalf("a client is told %s", text)
			}
		}
		f.token, f.tokenErr = "secret", nil
		for range 3 {
			if text := ask(); !strings.Contains(text, "service_name") {
				t.Fatalf("it can be read: %s", text)
			}
		}
	}
	var token []string
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "admin token") {
			token = append(token, line)
		}
	}
	if len(token) != 4 || !strings.Contains(token[0], "level=ERROR") || !strings.Contains(token[2], "permission denied") || !strings.Contains(token[3], "readable again") {
		t.Errorf("%d lines: %s", len(token), token)
	}
}

func TestWrongTokensAreLimitedByAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{token: "secret"}
		var log bytes.Buffer
		h := admin.New(admin.Config{Proxy: f, Bus: new(events.Bus), Metrics: http.NotFoundHandler(), Logger: slog.New(slog.NewTextHandler(&log, nil))})
		try := func(address, token string) *httptest.ResponseRecorder {
			r := post(`{"state":"open"}`, "Authorization", token)
			r.RemoteAddr = address
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w
		}
		const here, there = "192.0.2.1:1000", "192.0.2.2:1000"
		start := time.Now()
		for i := range 20 {
			if w := try(here, "Bearer guessed-it"); w.Code != 401 {
				t.Fatalf("guess %d: status %d", i, w.Code)
			}
		}
		for i := range 10 { // in turn, a hundred a second
			w := try("192.0.2.1:2000", "Bearer guessed-it")
			if w.Code != 429 || w.Header().Get("Retry-After") != "1" {
				t.Errorf("guess %d after those: status %d, Retry-After %q", i, w.Code, w.Header().Get("Retry-After"))
			}
		}
		if took := time.Since(start); took != 90*time.Millisecond {
			t.Errorf("ten guesses too many took %v", took)
		}
		if w := try(there, "Bearer secret"); w.Code != 200 || time.Since(start) != 90*time.Millisecond {
			t.Errorf("another address: status %d after %v", w.Code, time.Since(start))
		}
		if w := try(here, "Bearer secret"); w.Code != 200 || time.Since(start) != 100*time.Millisecond {
			t.Errorf("the right one: status %d after %v", w.Code, time.Since(start))
		}
		start = time.Now()
		codes := make(chan [2]int, 100)
		for i := range cap(codes) { // at once, every fourth of them the right one
			go func() {
				if i%4 == 0 {
					codes <- [2]int{200, try(here, "Bearer secret").Code}
				} else {
					codes <- [2]int{429, try(here, "Bearer guessed-it").Code}
				}
			}()
			synctest.Wait()
		}
		if n := len(codes); n > 1 {
			t.Errorf("%d of 100 at once did not wait for their turn", n)
		}
		for range cap(codes) {
			if code := <-codes; code[0] != code[1] {
				t.Errorf("one of many at once: status %d, want %d", code[1], code[0])
			}
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("a hundred at once took %v", took)
		}
		time.Sleep(time.Minute)
		if w := try(here, "Bearer guessed-it"); w.Code != 401 {
			t.Errorf("a guess a minute later: status %d", w.Code)
		}
		for i := range 100 { // no token is no guess
			if w := try(there, ""); w.Code != 401 {
				t.Fatalf("without one, %d: status %d", i, w.Code)
			}
		}
		for i := range 25 { // an IPv6 client has a whole network
			want := 401
			if i >= 20 {
				want = 429
			}
			if w := try("[2001:db8::"+string(rune('a'+i%6))+"]:1", "Bearer guessed-it"); w.Code != want {
				t.Errorf("guess %d of a network: status %d", i, w.Code)
			}
		}
		if text := log.String(); strings.Contains(text, "guessed-it") || strings.Count(text, "action=refused") != 20+1+20 || strings.Count(text, "more_are_not_logged=true") != 2 {
			t.Errorf("the log:\n%s", text)
		}
	})
}

// A client that leaves makes no other wait for its turn, and a body is still whole after the wait.
func TestTurnsOfClientsThatLeftAreFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{token: "secret"}
		h, _ := handler(f)
		try := func(ctx context.Context, token string) int {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, post(`{"state":"closed","reason":"whole"}`, "Authorization", "Bearer "+token).WithContext(ctx))
			return w.Code
		}
		for range 20 {
			try(t.Context(), "guessed-it")
		}
		ctx, leave := context.WithCancel(t.Context())
		codes := make(chan int, 1000)
		for range cap(codes) {
			go func() { codes <- try(ctx, "guessed-it") }()
		}
		synctest.Wait()
		leave()
		synctest.Wait()
		start := time.Now()
		if code := try(t.Context(), "secret"); code != 200 || time.Since(start) > 10*time.Millisecond {
			t.Errorf("status %d after %v", code, time.Since(start))
		}
		if len(f.orders) != 1 || f.orders[0] != "svc closed 0s whole" {
			t.Errorf("orders %q", f.orders)
		}
		for range cap(codes) {
			if code := <-codes; code == 200 {
				t.Error("one that left was confirmed")
			}
		}
	})
}

func TestEachWriteIsTold(t *testing.T) {
	f := &fake{token: "secret"}
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
	f.orderErr = http.ErrAbortHandler
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
		told, ok := e.(events.AdminAction)
		if !ok || time.Since(told.Time) > time.Minute {
			t.Fatalf("told of %+v", e)
		}
		told.Time = time.Time{}
		text, _ := json.Marshal(told)
		if got := strings.Replace(string(text), `"time":"0001-01-01T00:00:00Z",`, "", 1); got != want {
			t.Errorf("told %s\nwant %s", got, want)
		}
	}
}
