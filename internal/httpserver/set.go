package httpserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"

	"cbproxy/internal/listen"
)

// Set serves a set of listeners, each with a Server of its own. Listeners that are added with Add stay until the end. The others
// are changed in two phases: Prepare opens the sockets of a change, which can fail and changes nothing else; Commit then begins to
// serve them and closes the listeners that are not needed any more. A Set is safe for concurrent use, except that a Change must
// be committed or discarded before Prepare is called again.
type Set struct {
	newServer func(key string) *Server
	failed    chan error

	mu      sync.Mutex // guards the fields below, and the members' servers until they are started
	started bool
	closing bool // Shutdown or Close has been called
	fixed   []*member
	members map[string]*member // by key
	retired map[*member]bool   // closed by a Change, but still serving requests
	drained sync.WaitGroup     // the members in retired
}

// member is a listener of a Set.
type member struct {
	key      string
	address  listen.Address
	listener *listen.Listener
	server   *Server
}

// OpenError is the error of a listener that can't be opened.
type OpenError struct {
	// Key is the listener's.
	Key string
	Err error
}

func (e *OpenError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *OpenError) Unwrap() error { return e.Err }

// NewSet returns an empty Set. newServer makes the server of a listener.
func NewSet(newServer func(key string) *Server) *Set {
	return &Set{newServer: newServer, failed: make(chan error, 1), members: map[string]*member{}, retired: map[*member]bool{}}
}

// Add adds a listener that stays until the end.
func (s *Set) Add(key string, l *listen.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := &member{key: key, listener: l, server: s.newServer(key)}
	s.fixed = append(s.fixed, m)
	if s.started {
		s.serve(m)
	}
}

// Start begins to serve. Before that, clients that connect wait.
func (s *Set) Start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = true
	for _, m := range s.all() {
		s.serve(m)
	}
}

// Failed returns a channel with the error of a listener that has failed.
func (s *Set) Failed() <-chan error { return s.failed }

// all returns the members that are not retired. s.mu must be held.
func (s *Set) all() []*member {
	all := append([]*member(nil), s.fixed...)
	for _, m := range s.members {
		all = append(all, m)
	}
	return all
}

// serve starts the server of m.
func (s *Set) serve(m *member) {
	m.server.netHTTPListener.start(Wrap(m.listener))
	go func() {
		if err := m.server.run(); !errors.Is(err, http.ErrServerClosed) {
			select {
			case s.failed <- fmt.Errorf("serve %s: %w", m.listener.Addr(), err):
			default: // another one has failed
			}
		}
	}()
}

// Addr returns the network address of the listener with a key, nil if there is none.
func (s *Set) Addr(key string) net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.members[key]; m != nil {
		return m.listener.Addr()
	}
	return nil
}

// Shutdown closes all listeners and waits until all requests have their response, or until ctx is done, and then returns the
// context's error.
func (s *Set) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	all := s.all()
	s.mu.Unlock()
	errs := make(chan error, len(all)+1)
	for _, m := range all {
		go func() { errs <- m.server.Shutdown(ctx) }()
	}
	go func() { errs <- s.waitRetired(ctx) }()
	var err error
	for range len(all) + 1 {
		err = errors.Join(err, <-errs)
	}
	return err
}

// waitRetired waits until the retired members have served their requests, or until ctx is done.
func (s *Set) waitRetired(ctx context.Context) error {
	drained := make(chan struct{})
	go func() { s.drained.Wait(); close(drained) }()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close closes all listeners and connections.
func (s *Set) Close() {
	s.mu.Lock()
	s.closing = true
	all := s.all()
	for m := range s.retired {
		all = append(all, m)
	}
	started := s.started
	s.mu.Unlock()
	for _, m := range all {
		if !started {
			_ = m.listener.Close()
		}
		_ = m.server.Close()
	}
}
