package choosing

import (
	"net/http"
	"sync"
	"time"
)

// modelServer models a server that needs a long time for each answer, such as one that runs a model: requests wait in a queue, first
// come, first served, until one of a few workers is free. Like most such servers it does not notice that a client has given up: it
// works on the request nevertheless. So if more is asked for than it can serve, the queue grows until every request in it is
// given up before it is answered: the server is fully busy, and no client gets an answer.
//
// With longestWait it rejects instead, with 503 and at once, what would have to wait longer, as servers with a limited queue do.
type modelServer struct {
	service     time.Duration // that a worker takes for an answer
	longestWait time.Duration // in the queue; 0 is no limit

	mu     sync.Mutex
	free   []time.Time // when each worker will have done all that is queued for it; guarded by mu
	wasted int         // answers for clients that had given up; guarded by mu
}

// newModelServer returns a model server with two workers.
func newModelServer(service, longestWait time.Duration) *modelServer {
	return &modelServer{service: service, longestWait: longestWait, free: make([]time.Time, 2)}
}

// ServeHTTP implements http.Handler.
func (s *modelServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	done, accepted := s.enqueue()
	if !accepted {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	select {
	case <-time.After(time.Until(done)):
	case <-r.Context().Done():
		s.mu.Lock()
		s.wasted++
		s.mu.Unlock()
	}
}

// enqueue adds a request to the queue and returns when its answer will be ready, or false if it would have to wait for too long.
func (s *modelServer) enqueue() (done time.Time, accepted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, start := 0, time.Now()
	for i, at := range s.free {
		if at.Before(s.free[next]) {
			next = i
		}
	}
	if s.free[next].After(start) {
		if s.longestWait > 0 && time.Until(s.free[next]) > s.longestWait {
			return time.Time{}, false
		}
		start = s.free[next]
	}
	s.free[next] = start.Add(s.service)
	return s.free[next], true
}

func (s *modelServer) setFaulty(bool) {}

func (s *modelServer) wastedAnswers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wasted
}
