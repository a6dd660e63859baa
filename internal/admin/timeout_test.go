package admin_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cbproxy/internal/events"
)

func TestSlowReaderIsDisconnected(t *testing.T) {
	for _, c := range []struct{ what, path string }{{"events", "/api/v1/events"}, {"response", "/api/v1/openapi.json"}} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, bus := handler(&fakeBackend{})
				client, ended := serveOne(h, nil)
				if _, err := fmt.Fprintf(client, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", c.path); err != nil {
					t.Fatal(err)
				}
				if line, err := bufio.NewReaderSize(client, 16).ReadString('\n'); err != nil || line != "HTTP/1.1 200 OK\r\n" {
					t.Fatalf("%q, %v", line, err)
				}
				start := time.Now()
				bus.Publish(events.Forced{Service: "svc", Reason: strings.Repeat("x", 64<<10)})
				<-ended
				if took := time.Since(start); took > time.Minute {
					t.Errorf("disconnected after %v", took)
				}
				_ = client.Close()
			})
		})
	}
}

// TestEventStreamSurvivesIdleTime checks that the write deadline of an HTTP/2 stream does not end an idle event stream.
func TestEventStreamSurvivesIdleTime(t *testing.T) {
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(version, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, bus := handler(&fakeBackend{})
				protocols := new(http.Protocols)
				protocols.SetHTTP1(version == "HTTP/1.1")
				protocols.SetUnencryptedHTTP2(version == "HTTP/2.0")
				client, ended := serveOne(h, protocols)
				transport := &http.Transport{Protocols: protocols, DialContext: func(context.Context, string, string) (net.Conn, error) { return client, nil }}
				res, err := (&http.Client{Transport: transport}).Get("http://localhost/api/v1/events")
				if err != nil || res.Proto != version {
					t.Fatalf("%v, %v", res, err)
				}
				go func() {
					time.Sleep(time.Hour)
					bus.Publish(events.Forced{Service: "svc", Reason: "after idle"})
				}()
				lines := bufio.NewScanner(res.Body)
				for lines.Scan() && !strings.Contains(lines.Text(), "after idle") {
					continue // the snapshot and heartbeats
				}
				if err := lines.Err(); err != nil || !strings.Contains(lines.Text(), "after idle") {
					t.Errorf("the stream ended with %q, %v", lines.Text(), err)
				}
				_ = res.Body.Close()
				_ = client.Close()
				<-ended
			})
		})
	}
}

// serveOne serves one connection and returns its client end. The connection is unbuffered: each write blocks until it is read.
// ended is closed once the server has closed the connection.
func serveOne(h http.Handler, protocols *http.Protocols) (client net.Conn, ended <-chan struct{}) {
	client, server := net.Pipe()
	done := make(chan struct{})
	l := &oneConn{conn: server, done: make(chan struct{})}
	s := &http.Server{Handler: h, Protocols: protocols, ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			close(l.done)
		}
	}}
	go func() {
		defer close(done)
		_ = s.Serve(l) // until the connection is closed
	}()
	return client, done
}

// oneConn is a listener that accepts one connection and is closed with it.
type oneConn struct {
	conn net.Conn
	done chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.done
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }
