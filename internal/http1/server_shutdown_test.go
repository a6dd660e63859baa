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

func TestShutdownWaitsForRequestsOnly(t *testing.T) {
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
	say(t, idle, simple)
	wholeResponse(t, idleReader)
	busy, busyReader := dial(t, address)
	say(t, busy, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
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

// A request that has come before the end is answered, on a connection on which nothing will follow.
func TestShutdownLeavesNoRequestUnanswered(t *testing.T) {
	onLinux(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := http1.NewServer(http1.ServerConfig{Handler: http.HandlerFunc(hello), IdleTimeout: time.Hour, FirstRequestTimeout: time.Hour})
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, asks := range []bool{true, false} {
		c, r := dial(t, l.Addr().String())
		if asks {
			say(t, c, simple)
		}
		accepted, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		s.ServeConn(accepted)
		if asks {
			if res, body := wholeResponse(t, r); body != "hello" || !res.Close {
				t.Errorf("%q, close %v", body, res.Close)
			}
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Error(err)
		}
	}
}

// Those who leave meanwhile are told of until the end.
func TestShutdownWhileClientsLeave(t *testing.T) {
	for range 60 {
		s, address := serve(t, hello, http1.ServerConfig{IdleTimeout: time.Hour, FirstRequestTimeout: time.Hour})
		var clients []net.Conn
		for range 100 {
			c, r := dial(t, address)
			say(t, c, simple)
			wholeResponse(t, r)
			clients = append(clients, c)
		}
		var leaving sync.WaitGroup
		some := make(chan struct{})
		leaving.Go(func() {
			for i, c := range clients {
				if i == len(clients)/2 {
					close(some)
				}
				_ = c.Close()
			}
		})
		<-some
		done := make(chan error, 1)
		go func() { done <- s.Shutdown(t.Context()) }()
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(patience):
			t.Fatal("it does not come to its end")
		}
		leaving.Wait()
	}
}

func TestCloseCutsRequests(t *testing.T) {
	begun := make(chan struct{})
	s, address := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	}, http1.ServerConfig{})
	c, r := dial(t, address)
	say(t, c, simple)
	<-begun
	s.Close()
	if _, err := r.ReadByte(); err == nil {
		t.Error("something was said")
	}
}

func TestPanicCutsTheConnection(t *testing.T) {
	said := make(chan any, 1)
	_, address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/begun" {
			hello(w, r)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		panic("oh")
	}, http1.ServerConfig{OnPanic: func(v any) { said <- v }})
	c, r := dial(t, address)
	say(t, c, "GET /begun HTTP/1.1\r\nHost: a\r\n\r\n")
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); string(body) != "hello" || err != io.ErrUnexpectedEOF {
		t.Errorf("%q, %v", body, err)
	}
	c, r = dial(t, address)
	say(t, c, simple)
	if _, err := r.ReadByte(); err != io.EOF {
		t.Error(err)
	}
	if v := <-said; v != "oh" {
		t.Error(v)
	}
}
