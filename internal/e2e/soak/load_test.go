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

// load is a set of clients of every kind at every instance.
type load struct {
	s       *soak
	stop    chan struct{}
	clients sync.WaitGroup
}

// client is one of them.
type client struct {
	*load
	*rand.Rand
	p     *soakProxy
	name  string
	http1 *http.Client
	http2 *http.Client
}

func (s *soak) startLoad(spell int) *load {
	l := &load{s: s, stop: make(chan struct{})}
	kinds := []func(*client){
		(*client).call, (*client).call, (*client).callByHTTP2, (*client).leave, (*client).readSlowly,
		(*client).upload, (*client).follow, (*client).talk, (*client).callGRPC, (*client).sendInvalid,
	}
	for n, p := range s.fleet {
		for i, kind := range kinds {
			c := l.client(p, fmt.Sprintf("%d/%d/%d", spell, n, i), spell*1000+n*100+i)
			l.clients.Go(func() {
				defer c.close()
				for l.on() {
					kind(c)
				}
			})
		}
	}
	return l
}

func (l *load) client(p *soakProxy, name string, n int) *client {
	return &client{load: l, Rand: l.s.random("client", n), p: p, name: name, http1: newClient(false), http2: newClient(true)}
}

func (c *client) close() {
	c.http1.CloseIdleConnections()
	c.http2.CloseIdleConnections()
}

func newClient(http2 bool) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	return &http.Client{Transport: &http.Transport{Protocols: protocols, DisableCompression: true}, Timeout: time.Minute}
}

func (l *load) on() bool {
	select {
	case <-l.stop:
		return false
	default:
		return true
	}
}

func (l *load) end() {
	close(l.stop)
	l.clients.Wait()
}

// pause is what a client does between its requests.
func (c *client) pause(most time.Duration) {
	if c.p.downs.Load()%2 == 1 {
		most = 50 * time.Millisecond // the instance is down
	}
	time.Sleep(c.N(most))
}

func (r *client) N(d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d) + 1)) }

// question returns a request to a route that is new each time, save at routes with a cache, where
// the same questions are asked again and again.
func (c *client) question(service, method string) *question {
	route := soakRoutes[service]
	q := &question{route: route, instance: c.p.n, method: method, tenant: fmt.Sprintf("tenant-%d", c.IntN(4)), lines: 1 + c.IntN(20)}
	q.target = fmt.Sprintf("/q/%d?pad=%d&x=%%zz", c.IntN(1000), q.lines)
	if service == "rag_service" {
		q.lines = 1 + c.IntN(3)
		q.target = fmt.Sprintf("/q/%d?pad=%d", c.IntN(60), q.lines)
	}
	if c.IntN(40) == 0 && service != "rag_service" {
		q.lines, q.cuttable = 3000, true // more than is read whole before the client sees any of it
		q.target = "/big?pad=3000"
		if c.IntN(2) == 0 {
			q.target += "&chunked"
		}
	}
	return q
}

// call asks one of the plain routes and waits for the answer.
func (c *client) call() { c.callBy(c.http1) }

func (c *client) callByHTTP2() { c.callBy(c.http2) }

func (c *client) callBy(by *http.Client) {
	services := []string{"rag_service", "rule_generation_service", "notifier_service", "vms_service", "prediction_service", "shadow", "drafts", "backup"}
	service := services[c.IntN(len(services))]
	method := http.MethodGet
	if service == "notifier_service" || c.IntN(3) == 0 {
		method = http.MethodPost
	}
	q := c.question(service, method)
	if service == "notifier_service" && c.p.elder && by == c.http1 {
		q.from = c.name
	}
	c.ask(by, q, nil, time.Minute)
	c.pause(40 * time.Millisecond)
}

// ask sends a request, with a body if it is to have one and is given none, and judges the answer. It leaves
// after a while.
func (c *client) ask(by *http.Client, q *question, body io.Reader, timeout time.Duration) {
	c.s.ledger.ask(q)
	if body == nil && q.method == http.MethodPost {
		text := fmt.Sprintf(`{"n": %d, "of": %q}`, q.id, strings.Repeat(c.name, c.IntN(50)))
		q.sum, body = crc32.ChecksumIEEE([]byte(text)), strings.NewReader(text)
		if c.IntN(2) == 0 && q.route.service == "notifier_service" {
			q.key = fmt.Sprintf("key-%d", q.id)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, q.method, c.p.URL+strings.TrimSuffix(q.route.prefix, "/")+q.target, body)
	if err != nil {
		c.s.complain("the soak", "%v: %v", q, err)
		return
	}
	r.GetBody = nil // disables automatic retries by net/http, which the client cannot count
	r.Header.Set(soakID, fmt.Sprint(q.id))
	r.Header.Set("Authorization", q.tenant)
	r.Header.Set("X-Fallback", "spoofed")
	if q.key != "" {
		r.Header.Set("Idempotency-Key", q.key)
	}
	c.exchange(by, q, r)
}

func (c *client) exchange(by *http.Client, q *question, r *http.Request) {
	downs, start := c.p.downs.Load(), time.Now()
	res, err := by.Do(r)
	var text []byte
	if err == nil {
		text, err = io.ReadAll(res.Body)
		_ = res.Body.Close()
	}
	took := time.Since(start)
	q.disturbed = !c.p.upSince(downs)
	q.left = q.left || r.Context().Err() != nil && took < time.Minute
	if took > q.route.timeout+hangs && !q.disturbed {
		c.s.complain("hung", "%v took %v", q, took)
	}
	switch {
	case err != nil && (q.left || q.disturbed):
		c.s.tally.uncertain(q)
	case err != nil && res == nil:
		c.s.complain("no answer", "%v: %v", q, err)
	case err != nil && (!q.cuttable || errors.Is(err, context.DeadlineExceeded)):
		c.s.complain("cut", "%v, after %d bytes: %v, %v", q, len(text), err, res.Header)
	case err != nil:
		q.broken, q.status = true, res.StatusCode
		if err := q.checkSignallingFields(res.Header); err != nil {
			c.s.complain("out of order", "%v: %v", q, err)
		}
		c.s.tally.count(q, classFailure, "cut", took)
	default:
		c.judge(q, res, string(text), took)
	}
}

func (c *client) judge(q *question, res *http.Response, text string, took time.Duration) {
	counts, err := q.judge(res, text)
	if err != nil {
		c.s.complain("out of order", "%v: %v; status %d, %v, %.300q", q, err, res.StatusCode, res.Header, text)
		return
	}
	what := fmt.Sprintf("upstream's %d", q.status)
	switch {
	case q.strategy != "":
		what = q.strategy + ", " + q.reason
	case res.Header["Proxy-Status"] != nil:
		what = fmt.Sprintf("problem %d", q.status)
	}
	c.s.tally.count(q, counts, what, took)
	state := res.Header.Get("X-Circuit-Breaker-State")
	switch {
	case c.s.calm.Load() && counts == classSuccess && state == "closed" && !q.cuttable && q.route.retries == 0:
		c.s.tally.fast.add(took)
	case q.strategy == "static" && q.reason == "open":
		c.s.tally.open.add(took)
	}
}

// leave sends a request and disconnects before most responses.
func (c *client) leave() {
	services := []string{"rag_service", "notifier_service", "vms_service", "shadow", "drafts", "backup", "media"}
	service := services[c.IntN(len(services))]
	method := http.MethodGet
	if service == "notifier_service" || c.IntN(2) == 0 {
		method = http.MethodPost
	}
	by := c.http1
	if c.IntN(3) == 0 {
		by = c.http2
	}
	c.ask(by, c.question(service, method), nil, time.Millisecond+c.N(20*time.Millisecond))
	c.pause(40 * time.Millisecond)
}
