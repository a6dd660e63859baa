package http1_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"cbproxy/internal/http1"
)

func TestShutdownWaitsForRequestsInFlight(t *testing.T) {
	begun, more := make(chan struct{}), make(chan struct{})
	s, address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(begun)
			<-more
		}
		hello(w, r)
	}, http1.ServerConfig{IdleTimeout: time.Hour, FirstRequestTimeout: time.Hour})
	_, unused := dial(t, address)
	idle, idleReader := dial(t, address)
	send(t, idle, simple)
	wholeResponse(t, idleReader)
	busy, busyReader := dial(t, address)
	send(t, busy, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
	<-begun

	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); err != context.DeadlineExceeded {
		t.Errorf("with a request in flight: %v", err)
	}
	for _, r := range []*bufio.Reader{unused, idleReader} {
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("an idle connection: %v", err)
		}
	}
	done := make(chan error)
	go func() { done <- s.Shutdown(context.Background()) }()
	close(more)
	if res, body := wholeResponse(t, busyReader); body != "hello" || !res.Close {
		t.Errorf("%q, close %v", body, res.Close)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A request that has arrived before the shutdown is still answered, and its connection is closed.
func TestShutdownAnswersArrivedRequest(t *testing.T) {
	onlyOnLinux(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := http1.NewServer(http1.ServerConfig{Handler: http.HandlerFunc(hello), IdleTimeout: time.Hour, FirstRequestTimeout: time.Hour})
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, sends := range []bool{true, false} {
		c, r := dial(t, l.Addr().String())
		if sends {
			send(t, c, simple)
		}
		accepted, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		s.ServeConn(accepted)
		if sends {
			if res, body := wholeResponse(t, r); body != "hello" || !res.Close {
				t.Errorf("%q, close %v", body, res.Close)
			}
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Error(err)
		}
	}
}

// Shutdown and the hangup monitor must not block each other.
func TestShutdownWhileClientsDisconnect(t *testing.T) {
	for range 60 {
		s, address := serve(t, hello, http1.ServerConfig{IdleTimeout: time.Hour, FirstRequestTimeout: time.Hour})
		var clients []net.Conn
		for range 100 {
			c, r := dial(t, address)
			send(t, c, simple)
			wholeResponse(t, r)
			clients = append(clients, c)
		}
		var disconnecting sync.WaitGroup
		halfway := make(chan struct{})
		disconnecting.Go(func() {
			for i, c := range clients {
				if i == len(clients)/2 {
					close(halfway)
				}
				_ = c.Close()
			}
		})
		<-halfway
		done := make(chan error, 1)
		go func() { done <- s.Shutdown(t.Context()) }()
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(testTimeout):
			t.Fatal("Shutdown does not return")
		}
		disconnecting.Wait()
	}
}

func TestCloseAbortsRequests(t *testing.T) {
	begun := make(chan struct{})
	s, address := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	}, http1.ServerConfig{})
	c, r := dial(t, address)
	send(t, c, simple)
	<-begun
	s.Close()
	if _, err := r.ReadByte(); err == nil {
		t.Error("the client got a response")
	}
}

func TestPanicClosesConnection(t *testing.T) {
	panics := make(chan any, 1)
	_, address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/begun" {
			hello(w, r)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		panic("oh")
	}, http1.ServerConfig{OnPanic: func(v any) { panics <- v }})
	c, r := dial(t, address)
	send(t, c, "GET /begun HTTP/1.1\r\nHost: a\r\n\r\n")
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); string(body) != "hello" || err != io.ErrUnexpectedEOF {
		t.Errorf("%q, %v", body, err)
	}
	c, r = dial(t, address)
	send(t, c, simple)
	if _, err := r.ReadByte(); err != io.EOF {
		t.Error(err)
	}
	if v := <-panics; v != "oh" {
		t.Error(v)
	}
}
