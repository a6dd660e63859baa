package httpserver_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"cbproxy/internal/httpserver"
)

// A client that does not read its response is disconnected when a write has blocked for IdleTimeout.
func TestBlockedWriteTimesOut(t *testing.T) { eachPath(t, testBlockedWriteTimesOut) }

func testBlockedWriteTimesOut(t *testing.T, options httpserver.Options) {
	options.IdleTimeout = 300 * time.Millisecond
	ended := make(chan error, 1)
	address := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		page := make([]byte, 64<<10)
		for {
			if _, err := w.Write(page); err != nil {
				ended <- err
				return
			}
		}
	}, options)
	c, _ := dial(t, address)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the write did not time out within 20s")
	}
}

// A write deadline that a handler sets is not overwritten by the connection's own, even after earlier writes.
func TestHandlerWriteDeadlineIsKept(t *testing.T) { eachPath(t, testHandlerWriteDeadlineIsKept) }

func testHandlerWriteDeadlineIsKept(t *testing.T, options httpserver.Options) {
	options.IdleTimeout = time.Hour
	ended := make(chan time.Duration, 1)
	address := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		page, control := make([]byte, 64<<10), http.NewResponseController(w)
		began := time.Now()
		_, _ = w.Write(page)
		go func() { _ = control.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)) }()
		for {
			if _, err := w.Write(page); err != nil {
				ended <- time.Since(began)
				return
			}
		}
	}, options)
	c, _ := dial(t, address)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the handler's deadline did not end the write within 20s")
	}
}
