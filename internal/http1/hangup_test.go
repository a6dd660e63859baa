package http1_test

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"cbproxy/internal/http1"
)

// A client that sends no more may still want its answer, and one that has been answered is gone.
func TestClientThatHasSaidAllItWill(t *testing.T) {
	_, address := serve(t, hello, http1.ServerConfig{})
	for range 100 {
		c, r := dial(t, address)
		say(t, c, simple)
		_ = c.CloseWrite()
		if _, body := wholeResponse(t, r); body != "hello" {
			t.Fatal(body)
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Fatal(err)
		}
	}
}

func TestClientThatLeavesEndsItsRequest(t *testing.T) {
	const idle = 50 * time.Millisecond
	for _, early := range []bool{true, false} {
		begun, ended := make(chan struct{}), make(chan error, 1)
		_, address := serve(t, func(_ http.ResponseWriter, r *http.Request) {
			close(begun)
			if !early {
				<-time.After(2 * idle) // somebody looks out for the client now, and the time for a next request is over
			}
			<-r.Context().Done()
			ended <- r.Context().Err()
		}, http1.ServerConfig{FirstRequestTimeout: idle, IdleTimeout: idle})
		c, _ := dial(t, address)
		say(t, c, simple)
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
		case <-time.After(patience):
			t.Fatal("nobody noticed")
		}
	}
}

// An end behind another request is that one's, and not its predecessor's.
func TestClientThatLeavesBehindAnotherRequest(t *testing.T) {
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
	say(t, c, simple)
	<-begun
	say(t, c, "GET /last HTTP/1.1\r\nHost: a\r\n\r\n")
	_ = c.CloseWrite()
	<-time.After(100 * time.Millisecond) // the end has been noticed
	more <- struct{}{}
	wholeResponse(t, r)
	<-begun
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("nobody noticed")
	}
}

// Whoever looks out for a client takes nothing of what it sends, and is gone with the request.
func TestSlowRequestsOnOneConnection(t *testing.T) {
	_, address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		<-time.After(100 * time.Millisecond)
		if err := r.Context().Err(); err != nil {
			t.Error(err)
		}
		hello(w, r)
	}, http1.ServerConfig{IdleTimeout: time.Minute})
	c, r := dial(t, address)
	for range 5 {
		say(t, c, simple)
		wholeResponse(t, r)
	}
}

// A client that is gone shows in a write, which ends the request.
func TestWriteToAClientThatIsGone(t *testing.T) {
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
	say(t, c, simple)
	_ = c.SetLinger(0)
	_ = c.Close()
	if err := <-ended; err != context.Canceled {
		t.Error(err)
	}
}
