package harness

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// MustQueue posts bodies and fails the test unless each is queued.
func (p *Proxy) MustQueue(bodies ...string) {
	p.T.Helper()
	for _, body := range bodies {
		if r := p.Post(body); r.Status != http.StatusAccepted || r.Header.Get("X-Fallback") != "queue" || r.Body != `{"queued":true}` {
			p.T.Fatalf("%s: %+v", body, r)
		}
	}
}

// QueueStatus holds the status of a service's queue in the admin API.
type QueueStatus struct {
	Waiting, Dead                            int
	Oldest, NextAttempt                      *time.Time
	LastError                                string `json:"last_error"`
	Accepted, Delivered, Retried, Died, Lost int
}

// QueuedRequest is a queued request in the admin API.
type QueuedRequest struct {
	ID, Service, State, Method, Path, Cause string
	Bytes, Attempts                         int
	Aside                                   bool
	Accepted                                time.Time
	NotBefore                               time.Time `json:"not_before"`
	LastError                               string    `json:"last_error"`
}

// Queue returns the status of svc's queue and its requests.
func (p *Proxy) Queue() (QueueStatus, []QueuedRequest) {
	p.T.Helper()
	r := p.AdminRequest(http.MethodGet, "/api/v1/queue", "")
	var answer struct {
		Queues   map[string]QueueStatus
		Requests []QueuedRequest
	}
	if err := json.Unmarshal([]byte(r.Body), &answer); err != nil || r.Status != http.StatusOK {
		p.T.Fatalf("%+v, %v", r, err)
	}
	return answer.Queues["svc"], answer.Requests
}

// AwaitDeadLetters waits until there are n dead letters and returns them.
func (p *Proxy) AwaitDeadLetters(n int) []QueuedRequest {
	p.T.Helper()
	var letters []QueuedRequest
	Eventually(p.T, fmt.Sprintf("%d dead letters", n), func() bool {
		_, all := p.Queue()
		letters = slices.DeleteFunc(all, func(r QueuedRequest) bool { return r.State != "dead" })
		return len(letters) == n
	})
	return letters
}

// AwaitEmptyQueue waits until the queue is empty.
func (p *Proxy) AwaitEmptyQueue() {
	p.T.Helper()
	Eventually(p.T, "the queue is empty", func() bool { s, _ := p.Queue(); return s.Waiting == 0 })
}
