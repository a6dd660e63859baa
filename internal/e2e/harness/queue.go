package harness

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// QueueStatus holds the fields of a queue's status in the admin API that the tests use.
type QueueStatus struct {
	Waiting, Dead                            int
	Oldest, NextAttempt                      *time.Time
	LastError                                string `json:"last_error"`
	Accepted, Delivered, Retried, Died, Lost int
}

// QueuedRequest holds the fields of a queued request in the admin API.
type QueuedRequest struct {
	ID, Service, State, Method, Path, Cause string
	Bytes, Attempts                         int
	Aside                                   bool
	Accepted                                time.Time
	NotBefore                               time.Time `json:"not_before"`
	LastError                               string    `json:"last_error"`
}

// MustQueue sends a POST request to service svc for each body, and fails the test unless each is queued.
func (p *Proxy) MustQueue(bodies ...string) {
	p.T.Helper()
	for _, body := range bodies {
		if r := p.Post(body); r.Status != http.StatusAccepted || r.Header.Get("X-Fallback") != "queue" || r.Body != `{"queued":true}` {
			p.T.Fatalf("%s: %+v", body, r)
		}
	}
}

// Queue gets the status of the queue of service svc, and the queued requests of all services.
func (p *Proxy) Queue() (QueueStatus, []QueuedRequest) {
	p.T.Helper()
	r := p.AdminRequest(http.MethodGet, "/api/v1/queue", "")
	var list struct {
		Queues   map[string]QueueStatus
		Requests []QueuedRequest
	}
	if err := json.Unmarshal([]byte(r.Body), &list); err != nil || r.Status != http.StatusOK {
		p.T.Fatalf("list the queue: %+v, %v", r, err)
	}
	return list.Queues["svc"], list.Requests
}

// AwaitDeadLetters waits until the queues have exactly n dead letters, and returns them.
func (p *Proxy) AwaitDeadLetters(n int) []QueuedRequest {
	p.T.Helper()
	var dead []QueuedRequest
	Eventually(p.T, fmt.Sprintf("%d dead letters", n), func() bool {
		_, all := p.Queue()
		dead = slices.DeleteFunc(all, func(r QueuedRequest) bool { return r.State != "dead" })
		return len(dead) == n
	})
	return dead
}

// AwaitEmptyQueue waits until no request of service svc is queued. Dead letters may remain.
func (p *Proxy) AwaitEmptyQueue() {
	p.T.Helper()
	Eventually(p.T, "the queue is empty", func() bool { s, _ := p.Queue(); return s.Waiting == 0 })
}

// Numbered returns n strings, each prefix and a number of at least two digits that counts from 00.
func Numbered(prefix string, n int) (numbered []string) {
	for i := range n {
		numbered = append(numbered, fmt.Sprintf("%s%02d", prefix, i))
	}
	return numbered
}
