package proxy_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// accessRecords is an access log that sends its records to the channel.
type accessRecords chan events.AccessRecord

func (accessRecords) Enabled() bool                { return true }
func (l accessRecords) Log(a *events.AccessRecord) { l <- *a }

func (l accessRecords) next(t *testing.T) events.AccessRecord {
	t.Helper()
	select {
	case a := <-l:
		return a
	case <-time.After(20 * time.Second):
		t.Fatal("no request was logged within 20s")
		panic("unreachable")
	}
}

// Each request is logged once, including those that only net/http has seen.
func TestRefusedRequestsAreLoggedOnce(t *testing.T) {
	records := make(accessRecords, 100)
	address := startProxy(t, routeConfig(closedPort(t)), proxyOptions{access: records}).address
	for _, r := range []struct {
		name, request string
		status        int
		path          string // "" if it is unknown
	}{
		{"no HTTP request", "not an HTTP request\r\n\r\n", 400, ""},
		{"no Host", "GET /svc HTTP/1.1\r\n\r\n", 400, ""},
		{"unknown expectation", "GET /svc HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417, ""},
		{"unknown transfer coding", "POST /svc HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, ""},
		{"unknown version", "GET /svc HTTP/9.9\r\nHost: a\r\n\r\n", 505, ""},
		{"header section far too large", "GET /svc HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", 431, ""},
		{"header section too large", "GET /svc HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 100<<10) + "\r\n\r\n", 431, "/svc"},
		{"no route", "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 404, "/nowhere"},
	} {
		t.Run(r.name, func(t *testing.T) {
			client, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = client.Close() }()
			go func() { _, _ = io.WriteString(client, r.request) }() // the server may not read all of it
			response := make([]byte, len("HTTP/1.1 400"))
			if _, err := io.ReadFull(client, response); err != nil || string(response) != fmt.Sprintf("HTTP/1.1 %d", r.status) {
				t.Fatalf("%q, %v", response, err)
			}
			a := records.next(t)
			if a.Status != r.status || a.Path != r.path || a.Service != "" || a.Arrived.IsZero() || a.Client != client.LocalAddr().String() {
				t.Errorf("record %+v", a)
			}
		})
	}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	defer client.CloseIdleConnections()
	r, _ := http.NewRequest("GET", "http://"+address+"/svc", nil)
	r.URL.Opaque = "/svc a"
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if a := records.next(t); res.StatusCode != 400 || a.Status != 400 {
		t.Errorf("status %d, record %+v", res.StatusCode, a)
	}
	if len(records) > 0 {
		t.Errorf("one more record: %+v", <-records)
	}
}
