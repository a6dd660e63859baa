package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// mustQueue posts bodies and fails the test unless each is queued.
func (p *proxyProcess) mustQueue(bodies ...string) {
	p.t.Helper()
	for _, body := range bodies {
		if r := p.post(body); r.status != http.StatusAccepted || r.header.Get("X-Fallback") != "queue" || r.body != `{"queued":true}` {
			p.t.Fatalf("%s: %+v", body, r)
		}
	}
}

// queueStatus holds the status of a service's queue in the admin API.
type queueStatus struct {
	Waiting, Dead                            int
	Oldest, NextAttempt                      *time.Time
	LastError                                string `json:"last_error"`
	Accepted, Delivered, Retried, Died, Lost int
}

// queuedRequest is a queued request in the admin API.
type queuedRequest struct {
	ID, Service, State, Method, Path, Cause string
	Bytes, Attempts                         int
	Aside                                   bool
	Accepted                                time.Time
	NotBefore                               time.Time `json:"not_before"`
	LastError                               string    `json:"last_error"`
}

// backlog returns the status of svc's queue and its requests.
func (p *proxyProcess) backlog() (queueStatus, []queuedRequest) {
	p.t.Helper()
	r := p.operate(http.MethodGet, "/api/v1/queue", "")
	var answer struct {
		Queues   map[string]queueStatus
		Requests []queuedRequest
	}
	if err := json.Unmarshal([]byte(r.body), &answer); err != nil || r.status != http.StatusOK {
		p.t.Fatalf("%+v, %v", r, err)
	}
	return answer.Queues["svc"], answer.Requests
}

// dead waits until there are n dead letters and returns them.
func (p *proxyProcess) dead(n int) []queuedRequest {
	p.t.Helper()
	var letters []queuedRequest
	eventually(p.t, fmt.Sprintf("%d dead letters", n), func() bool {
		_, all := p.backlog()
		letters = slices.DeleteFunc(all, func(r queuedRequest) bool { return r.State != "dead" })
		return len(letters) == n
	})
	return letters
}

// drained waits until the queue is empty.
func (p *proxyProcess) drained() {
	p.t.Helper()
	eventually(p.t, "the queue is empty", func() bool { s, _ := p.backlog(); return s.Waiting == 0 })
}
