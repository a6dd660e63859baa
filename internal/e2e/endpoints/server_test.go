package endpoints

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// server is an endpoint that can die, hang and come back at the same address.
type server struct {
	t       testing.TB
	address string
	name    string
	tls     *tls.Config  // nil: it does not use TLS
	calls   atomic.Int64 // that have arrived
	counted atomic.Int64 // of them those whose path ends with countedPath
	status  atomic.Int64 // of responses; 0: 200
	handler http.Handler // answers instead if the status is 0; nil: answer

	mu          sync.Mutex
	server      *http.Server          // nil while it is dead
	listener    net.Listener          // of server
	connections map[net.Conn]struct{} // that are open
	hang        chan struct{}         // closed when hanging requests are to end; nil: requests do not hang
}

// countedPath distinguishes the calls of clients from health checks.
const countedPath = "/call"

// startServer starts an endpoint at a free address of 127.0.0.1. It ends with the test.
func startServer(t testing.TB, name string) *server {
	t.Helper()
	return startServerAt(t, name, harness.FreeAddress(t), nil)
}

// startServerAt starts an endpoint at an address. It uses TLS unless security is nil.
func startServerAt(t testing.TB, name, address string, security *tls.Config) *server {
	t.Helper()
	s := &server{t: t, name: name, address: address, tls: security, connections: map[net.Conn]struct{}{}}
	s.start()
	t.Cleanup(s.kill)
	return s
}

// startServers starts n endpoints, and returns them with the configuration's list of their URLs.
func startServers(t testing.TB, n int) (all []*server, list string) {
	t.Helper()
	for i := range n {
		s := startServer(t, fmt.Sprint("s", i))
		all, list = append(all, s), list+", "+s.url()
	}
	return all, "[" + list[2:] + "]"
}

func (s *server) url() string {
	if s.tls != nil {
		return "https://" + s.address
	}
	return "http://" + s.address
}

// start makes the server accept connections.
func (s *server) start() {
	s.t.Helper()
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	if s.tls != nil {
		l = tls.NewListener(l, s.tls)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener, s.server = l, &http.Server{
		Handler: http.HandlerFunc(s.serve), ConnState: s.connState, Protocols: protocols, ReadHeaderTimeout: time.Minute,
		ErrorLog: log.New(io.Discard, "", 0), // clients reject certificates on purpose
	}
	go func(server *http.Server) {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			s.t.Error(err)
		}
	}(s.server)
}

// kill closes the port and all connections.
func (s *server) kill() {
	s.resume()
	s.mu.Lock()
	server, l := s.server, s.listener
	s.server = nil
	s.mu.Unlock()
	if server != nil {
		_ = server.Close()
		_ = l.Close() // the server does not know it before it has begun to serve
	}
}

// pause makes the server accept requests and not answer them.
func (s *server) pause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hang = make(chan struct{})
}

// resume undoes pause.
func (s *server) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hang != nil {
		close(s.hang)
		s.hang = nil
	}
}

func (s *server) connState(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.connections[c] = struct{}{}
	case http.StateClosed:
		delete(s.connections, c)
	}
}

// open returns the number of open connections.
func (s *server) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.connections)
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	s.calls.Add(1)
	if strings.HasSuffix(r.URL.Path, countedPath) {
		s.counted.Add(1)
	}
	s.mu.Lock()
	hang := s.hang
	s.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}
	w.Header().Set("X-Endpoint", s.name)
	switch status := int(s.status.Load()); {
	case status != 0:
		w.WriteHeader(status)
	case s.handler != nil:
		s.handler.ServeHTTP(w, r)
	default:
		_, _ = fmt.Fprint(w, s.name)
	}
}

// callsOf returns the number of calls that each server has got.
func callsOf(all []*server) (calls []int) {
	for _, s := range all {
		calls = append(calls, int(s.calls.Load()))
	}
	return calls
}
