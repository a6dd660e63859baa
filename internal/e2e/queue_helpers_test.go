package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// queueRoute returns the configuration of a service svc that queues requests while its upstream is
// unavailable.
func queueRoute(u *upstreamProcess, options string) string {
	return queueRouteWith(u, "fail_max: 2, recovery_timeout: 0.2", options)
}

func queueRouteWith(u *upstreamProcess, breaker, options string) string {
	if options != "" {
		options = ", " + options
	}
	return fmt.Sprintf(`routes: {svc: {prefix: /svc, upstream: %s, timeout: 5, breaker: {%s}}}
fallbacks: {svc: {when: [open, half_open_limit, connect, timeout, reset, overload], try: [queue, static],
  queue: {body: {queued: true}, backoff: 0.05, max_backoff: 0.2%s}, static: {status: 503, body: {queued: false}}}}
`, u.url(), breaker, options)
}

// send sends a request with a body. fields are header names and values in turn.
func (p *proxyProcess) send(method, path, body string, fields ...string) response {
	p.t.Helper()
	r, err := http.NewRequest(method, p.data+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	for pair := range slices.Chunk(fields, 2) {
		r.Header.Add(pair[0], pair[1])
	}
	res, err := http.DefaultClient.Do(r)
	return read(p.t, res, err)
}

func (p *proxyProcess) post(body string, fields ...string) response {
	p.t.Helper()
	return p.send(http.MethodPost, "/svc/"+body, body, fields...)
}

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

// operate sends a request to the admin API, with a token unless that is empty.
func (p *proxyProcess) operate(method, path, token string) response {
	p.t.Helper()
	r, err := http.NewRequest(method, p.admin+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(r)
	return read(p.t, res, err)
}

// awaitTaken waits until the recorder has accepted exactly the given bodies in that order.
func (r *recorder) awaitTaken(bodies ...string) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("%d requests are delivered", len(bodies)), func() bool { return len(r.bodies()) >= len(bodies) })
	if got := r.bodies(); !slices.Equal(got, bodies) {
		r.t.Errorf("delivered %q, want %q", got, bodies)
	}
}

// numbered returns n words made of prefix and a number.
func numbered(prefix string, n int) (words []string) {
	for i := range n {
		words = append(words, fmt.Sprintf("%s%02d", prefix, i))
	}
	return words
}

// forceTo forces the breaker of svc.
func forceTo(t testing.TB, p *proxyProcess, state string) {
	t.Helper()
	if r := p.force("svc", `{"state":"`+state+`"}`); r.status != http.StatusOK {
		t.Fatalf("force %s: %+v", state, r)
	}
}
