package proxy_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/httpserver"
	"cbproxy/proxy"
)

// accessLines is an access log that hands its lines on.
type accessRecords chan events.AccessRecord

func (accessRecords) Enabled() bool                { return true }
func (l accessRecords) Log(a *events.AccessRecord) { l <- *a }

func (l accessRecords) next(t *testing.T) events.AccessRecord {
	t.Helper()
	select {
	case a := <-l:
		return a
	case <-time.After(20 * time.Second):
		t.Fatal("no line within 20s")
		panic("unreachable")
	}
}

// Each request has a line, including one that only net/http has handled.
func TestRefusedRequestsAreLoggedOnce(t *testing.T) {
	lines := make(accessRecords, 100)
	server := proxy.New(proxy.Config{Bus: new(events.Bus), Observers: newRecorder(), Access: lines, Logger: slog.New(slog.DiscardHandler)})
	c := parse(t, routeConfig("http://127.0.0.1:1"))
	if err := server.Apply(c); err != nil {
		t.Fatal(err)
	}
	listener, err := httpserver.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.Server = httpMode
	s := proxy.NewHTTPServer(server, c, slog.New(slog.DiscardHandler))
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(listener) }()
	defer func() { _ = s.Close(); <-served; server.Close() }()
	for _, r := range []struct {
		name, request string
		status        int
		path          string // "" where it is not known
	}{
		{"no request", "utter nonsense\r\n\r\n", 400, ""},
		{"no Host", "GET /svc HTTP/1.1\r\n\r\n", 400, ""},
		{"an expectation", "GET /svc HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417, ""},
		{"a coding", "POST /svc HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, ""},
		{"a version", "GET /svc HTTP/9.9\r\nHost: a\r\n\r\n", 505, ""},
		{"much too large", "GET /svc HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", 431, ""},
		{"too large", "GET /svc HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 100<<10) + "\r\n\r\n", 431, "/svc"},
		{"no route", "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 404, "/nowhere"},
	} {
		t.Run(r.name, func(t *testing.T) {
			client, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = client.Close() }()
			go func() { _, _ = io.WriteString(client, r.request) }() // the server may not want all of it
			answer := make([]byte, len("HTTP/1.1 400"))
			if _, err := io.ReadFull(client, answer); err != nil || string(answer) != fmt.Sprintf("HTTP/1.1 %d", r.status) {
				t.Fatalf("%q, %v", answer, err)
			}
			a := lines.next(t)
			if a.Status != r.status || a.Path != r.path || a.Service != "" || a.Arrived.IsZero() || a.Client != client.LocalAddr().String() {
				t.Errorf("line %+v", a)
			}
		})
	}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	defer client.CloseIdleConnections()
	r, _ := http.NewRequest("GET", "http://"+listener.Addr().String()+"/svc", nil)
	r.URL.Opaque = "/svc a"
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if a := lines.next(t); res.StatusCode != 400 || a.Status != 400 {
		t.Errorf("status %d, line %+v", res.StatusCode, a)
	}
	if len(lines) > 0 {
		t.Errorf("one more line: %+v", <-lines)
	}
}
