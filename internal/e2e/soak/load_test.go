package soak

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

// timeoutSlack is the time after a route's timeout at which a request without a response is reported.
const timeoutSlack = 15 * time.Second

// load is the running clients: one of each kind for each instance.
type load struct {
	s       *soakTest
	stop    chan struct{}
	clients sync.WaitGroup
}

// client sends requests of one kind to one instance, one after another.
type client struct {
	*load
	*rand.Rand
	p     *instance
	name  string
	http1 *http.Client
	http2 *http.Client
}

// startLoad starts the clients of a round.
func (s *soakTest) startLoad(round int) *load {
	l := &load{s: s, stop: make(chan struct{})}
	kinds := []func(*client){
		(*client).sendHTTP1, (*client).sendHTTP1, (*client).sendHTTP2, (*client).disconnect, (*client).readSlowly,
		(*client).upload, (*client).readEvents, (*client).upgrade, (*client).callGRPC, (*client).sendInvalid,
	}
	for n, p := range s.fleet {
		for i, kind := range kinds {
			c := l.newClient(p, fmt.Sprintf("%d/%d/%d", round, n, i), round*1000+n*100+i)
			l.clients.Go(func() {
				defer c.close()
				for l.running() {
					kind(c)
				}
			})
		}
	}
	return l
}

// end stops the clients and waits for their requests.
func (l *load) end() {
	close(l.stop)
	l.clients.Wait()
}

func (l *load) running() bool {
	select {
	case <-l.stop:
		return false
	default:
		return true
	}
}

// newClient returns a client of an instance. n selects its random numbers.
func (l *load) newClient(p *instance, name string, n int) *client {
	return &client{load: l, Rand: l.s.random("client", n), p: p, name: name, http1: newHTTPClient(false), http2: newHTTPClient(true)}
}

func newHTTPClient(http2 bool) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	return &http.Client{Transport: &http.Transport{Protocols: protocols, DisableCompression: true}, Timeout: time.Minute}
}

func (c *client) close() {
	c.http1.CloseIdleConnections()
	c.http2.CloseIdleConnections()
}

// pause sleeps for a random time up to limit, between two requests.
func (c *client) pause(limit time.Duration) {
	if c.p.transitions.Load()%2 == 1 {
		limit = 50 * time.Millisecond // the instance is down
	}
	time.Sleep(c.randomDuration(limit))
}

// randomDuration returns a random duration up to limit.
func (c *client) randomDuration(limit time.Duration) time.Duration {
	return time.Duration(c.Int64N(int64(limit) + 1))
}

// newRequest returns a request with a random target. For the route with a cache there are few targets, so that they
// repeat.
func (c *client) newRequest(service, method string) *request {
	req := &request{route: routes[service], instance: c.p.n, method: method, tenant: fmt.Sprintf("tenant-%d", c.IntN(4)), responseLines: 1 + c.IntN(20)}
	req.target = fmt.Sprintf("/q/%d?pad=%d&x=%%zz", c.IntN(1000), req.responseLines)
	if service == "rag_service" {
		req.responseLines = 1 + c.IntN(3)
		req.target = fmt.Sprintf("/q/%d?pad=%d", c.IntN(60), req.responseLines)
	}
	if c.IntN(40) == 0 && service != "rag_service" {
		req.responseLines, req.mayTruncate = 3000, true // more than the proxy buffers before it sends the response
		req.target = "/big?pad=3000"
		if c.IntN(2) == 0 {
			req.target += "&chunked"
		}
	}
	return req
}

// sendHTTP1 sends a request to a random route over HTTP/1.1.
func (c *client) sendHTTP1() { c.sendBy(c.http1) }

// sendHTTP2 sends a request to a random route over HTTP/2.
func (c *client) sendHTTP2() { c.sendBy(c.http2) }

func (c *client) sendBy(httpClient *http.Client) {
	services := []string{"rag_service", "rule_generation_service", "notifier_service", "vms_service", "prediction_service", "shadow", "drafts", "backup"}
	service := services[c.IntN(len(services))]
	method := http.MethodGet
	if service == "notifier_service" || c.IntN(3) == 0 {
		method = http.MethodPost
	}
	req := c.newRequest(service, method)
	if service == "notifier_service" && c.p.stable && httpClient == c.http1 {
		req.sequence = c.name
	}
	c.send(httpClient, req, nil, time.Minute)
	c.pause(40 * time.Millisecond)
}

// disconnect sends a request and disconnects before most responses.
func (c *client) disconnect() {
	services := []string{"rag_service", "notifier_service", "vms_service", "shadow", "drafts", "backup", "media"}
	service := services[c.IntN(len(services))]
	method := http.MethodGet
	if service == "notifier_service" || c.IntN(2) == 0 {
		method = http.MethodPost
	}
	httpClient := c.http1
	if c.IntN(3) == 0 {
		httpClient = c.http2
	}
	c.send(httpClient, c.newRequest(service, method), nil, time.Millisecond+c.randomDuration(20*time.Millisecond))
	c.pause(40 * time.Millisecond)
}

// send sends a request and checks the response. It disconnects after timeout. A POST request without a body gets a random
// one.
func (c *client) send(httpClient *http.Client, req *request, body io.Reader, timeout time.Duration) {
	c.s.requests.add(req)
	if body == nil && req.method == http.MethodPost {
		text := fmt.Sprintf(`{"n": %d, "of": %q}`, req.id, strings.Repeat(c.name, c.IntN(50)))
		req.bodySum, body = crc32.ChecksumIEEE([]byte(text)), strings.NewReader(text)
		if c.IntN(2) == 0 && req.route.service == "notifier_service" {
			req.idempotencyKey = fmt.Sprintf("key-%d", req.id)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, req.method, c.p.URL+strings.TrimSuffix(req.route.prefix, "/")+req.target, body)
	if err != nil {
		c.s.reportf("test error", "%v: %v", req, err)
		return
	}
	r.GetBody = nil // disables automatic retries by net/http, which the client cannot count
	r.Header.Set(idField, fmt.Sprint(req.id))
	r.Header.Set("Authorization", req.tenant)
	r.Header.Set("X-Fallback", "spoofed")
	if req.idempotencyKey != "" {
		r.Header.Set("Idempotency-Key", req.idempotencyKey)
	}
	c.do(httpClient, req, r)
}

// do sends the HTTP request of req, and checks and counts the result.
func (c *client) do(httpClient *http.Client, req *request, r *http.Request) {
	transitions, start := c.p.transitions.Load(), time.Now()
	res, err := httpClient.Do(r)
	var body []byte
	if err == nil {
		body, err = io.ReadAll(res.Body)
		_ = res.Body.Close()
	}
	elapsed := time.Since(start)
	req.instanceDown = !c.p.upSince(transitions)
	req.disconnected = req.disconnected || r.Context().Err() != nil && elapsed < time.Minute
	c.checkElapsed(req, elapsed)
	switch {
	case err != nil && !req.resultKnown():
		c.s.counts.addUnknown(req)
	case err != nil && res == nil:
		c.s.reportf("no response", "%v: %v", req, err)
	case err != nil && (!req.mayTruncate || errors.Is(err, context.DeadlineExceeded)):
		c.s.reportf("truncated response", "%v, after %d bytes: %v, %v", req, len(body), err, res.Header)
	case err != nil:
		req.truncated, req.status = true, res.StatusCode
		if err := req.checkBreakerFields(res.Header); err != nil {
			c.s.reportf("invalid response", "%v: %v", req, err)
		}
		c.s.counts.add(req, outcomeFailure, "truncated", elapsed)
	default:
		c.checkResponse(req, res, string(body), elapsed)
	}
}

// checkElapsed reports a request that took longer than the timeout of its route allows.
func (c *client) checkElapsed(req *request, elapsed time.Duration) {
	if elapsed > req.route.timeout+timeoutSlack && !req.instanceDown {
		c.s.reportf("timeout exceeded", "%v took %v", req, elapsed)
	}
}

// checkResponse validates and counts a complete response.
func (c *client) checkResponse(req *request, res *http.Response, body string, elapsed time.Duration) {
	result, err := req.validate(res, body)
	if err != nil {
		c.s.reportf("invalid response", "%v: %v; status %d, %v, %.300q", req, err, res.StatusCode, res.Header, body)
		return
	}
	kind := fmt.Sprintf("upstream %d", req.status)
	switch {
	case req.strategy != "":
		kind = req.strategy + ", " + req.reason
	case res.Header["Proxy-Status"] != nil:
		kind = fmt.Sprintf("problem %d", req.status)
	}
	c.s.counts.add(req, result, kind, elapsed)
	state := res.Header.Get("X-Circuit-Breaker-State")
	switch {
	case c.s.quiet.Load() && result == outcomeSuccess && state == "closed" && !req.mayTruncate && req.route.retries == 0:
		c.s.counts.upstreamLatency.add(elapsed)
	case req.strategy == "static" && req.reason == "open":
		c.s.counts.openLatency.add(elapsed)
	}
}
