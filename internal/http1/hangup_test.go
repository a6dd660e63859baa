package http1_test

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"cbproxy/internal/http1"
)

// A client that has half-closed its connection still gets the response; then the server closes the connection.
func TestHalfClosedClientGetsResponse(t *testing.T) {
	_, address := serve(t, hello, http1.ServerConfig{})
	for range 100 {
		c, r := dial(t, address)
		send(t, c, simple)
		_ = c.CloseWrite()
		if _, body := wholeResponse(t, r); body != "hello" {
			t.Fatal(body)
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Fatal(err)
		}
	}
}

func TestDisconnectCancelsRequest(t *testing.T) {
	const idle = 50 * time.Millisecond
	for _, early := range []bool{true, false} {
		begun, ended := make(chan struct{}), make(chan error, 1)
		_, address := serve(t, func(_ http.ResponseWriter, r *http.Request) {
			close(begun)
			if !early {
				<-time.After(2 * idle) // until the read deadline has passed
			}
			<-r.Context().Done()
			ended <- r.Context().Err()
		}, http1.ServerConfig{FirstRequestTimeout: idle, IdleTimeout: idle})
		c, _ := dial(t, address)
		send(t, c, simple)
		<-begun
		if !early {
			<-time.After(2 * idle)
		}
		_ = c.Close()
		select {
		case err := <-ended:
			if err != context.Canceled {
				t.Error(err)
			}
		case <-time.After(testTimeout):
			t.Fatal("the request was not cancelled")
		}
	}
}

// If a client disconnects after it has sent another request, the later request is cancelled, but not the current one.
func TestDisconnectAfterPipelinedRequest(t *testing.T) {
	begun, more, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	_, address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		if r.URL.Path == "/last" {
			<-r.Context().Done()
			close(ended)
			return
		}
		<-more
		if err := r.Context().Err(); err != nil {
			t.Error(err)
		}
		hello(w, r)
	}, http1.ServerConfig{})
	c, r := dial(t, address)
	send(t, c, simple)
	<-begun
	send(t, c, "GET /last HTTP/1.1\r\nHost: a\r\n\r\n")
	_ = c.CloseWrite()
	<-time.After(100 * time.Millisecond) // the monitor has reported the hangup
	more <- struct{}{}
	wholeResponse(t, r)
	<-begun
	select {
	case <-ended:
	case <-time.After(testTimeout):
		t.Fatal("the request was not cancelled")
	}
}

// The hangup monitor consumes no bytes and does not disturb later requests.
func TestMonitorDoesNotDisturbSlowRequests(t *testing.T) {
	_, address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		<-time.After(100 * time.Millisecond)
		if err := r.Context().Err(); err != nil {
			t.Error(err)
		}
		hello(w, r)
	}, http1.ServerConfig{IdleTimeout: time.Minute})
	c, r := dial(t, address)
	for range 5 {
		send(t, c, simple)
		wholeResponse(t, r)
	}
}

// A failed write to the client cancels the request.
func TestFailedWriteCancelsRequest(t *testing.T) {
	ended := make(chan error, 1)
	_, address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		page := make([]byte, 64<<10)
		for {
			if _, err := w.Write(page); err != nil {
				ended <- r.Context().Err()
				return
			}
		}
	}, http1.ServerConfig{})
	c, _ := dial(t, address)
	send(t, c, simple)
	_ = c.SetLinger(0)
	_ = c.Close()
	if err := <-ended; err != context.Canceled {
		t.Error(err)
	}
}
