package queue

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// sentRequest is a request and the response that the client got.
type sentRequest struct {
	body   string
	key    string // Idempotency-Key; "" if there is none
	status int    // of the response; 0 if there was none
	reason string // X-Fallback-Reason
}

// accepted reports whether the response confirmed that the request was delivered or queued.
func (r *sentRequest) accepted() bool { return r.status >= 200 && r.status < 300 }

// clients is a set of clients. Each sends numbered requests one after another and ignores errors.
type clients struct {
	url     string
	stop    chan struct{}
	running sync.WaitGroup

	mu   sync.Mutex
	sent map[int][]sentRequest // by client, in the order sent; guarded by mu
}

// startClients starts n clients that send requests to url.
func startClients(url string, n int) *clients {
	c := &clients{url: url, stop: make(chan struct{}), sent: map[int][]sentRequest{}}
	for id := range n {
		c.running.Go(func() { c.run(id) })
	}
	return c
}

func (c *clients) run(id int) {
	client := &http.Client{Transport: &http.Transport{}, Timeout: harness.EventTimeout}
	defer client.CloseIdleConnections()
	for n := 0; ; n++ {
		select {
		case <-c.stop:
			return
		default:
		}
		r := sentRequest{body: fmt.Sprintf("%d/%d/", id, n)}
		if n%10 == 0 {
			r.body += strings.Repeat("x", rand.IntN(100_000))
		}
		if id%2 == 0 {
			r.key = fmt.Sprintf("key-%d-%d", id, n)
		}
		c.send(client, &r)
		c.mu.Lock()
		c.sent[id] = append(c.sent[id], r)
		c.mu.Unlock()
		pause := rand.IntN(30) // so that the queue is sometimes empty
		if r.status == 0 {
			pause = 30 // the instance is down
		}
		time.Sleep(time.Duration(pause) * time.Millisecond)
	}
}

// send sends a request and stores the response.
func (c *clients) send(client *http.Client, sent *sentRequest) {
	r, err := http.NewRequest(http.MethodPost, c.url, strings.NewReader(sent.body))
	if err != nil {
		return
	}
	r.GetBody = nil // disables automatic retries by net/http, which the client cannot count
	if sent.key != "" {
		r.Header.Set("Idempotency-Key", sent.key)
	}
	res, err := client.Do(r)
	if err != nil {
		return
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err == nil {
		sent.status, sent.reason = res.StatusCode, res.Header.Get("X-Fallback-Reason")
	}
}

// end stops the clients and returns their requests by client.
func (c *clients) end() map[int][]sentRequest {
	close(c.stop)
	c.running.Wait()
	return c.sent
}

// injectUpstreamFaults kills and restarts the upstream, or makes it respond with 503, until stop is closed.
func injectUpstreamFaults(u *harness.Recorder, stop <-chan struct{}) {
	pause := func() { time.Sleep(time.Duration(20+rand.IntN(150)) * time.Millisecond) }
	for {
		select {
		case <-stop:
			return
		default:
		}
		pause()
		switch rand.IntN(3) {
		case 0:
			u.Kill()
			pause()
			u.Start()
		case 1:
			u.SetRules(harness.Rule{Status: 503})
			pause()
			u.SetRules()
		}
	}
}

// checkDeliveries compares the responses to clients with the requests that the upstream received.
func checkDeliveries(t *testing.T, sent map[int][]sentRequest, u *harness.Recorder) {
	t.Helper()
	first, successes, keys := map[string]int{}, map[string]int{}, map[string]string{}
	failed := map[string]bool{} // whether it had failed twice before it succeeded, so that others may have been sent before it
	for i, q := range u.Records() {
		if key, ok := keys[q.BodyText]; ok && q.Header.Get("X-Delivery-Attempt") != "" && key != q.Header.Get("Idempotency-Key") {
			t.Errorf("%.20q was received with different Idempotency-Keys", q.BodyText)
		} else if q.Header.Get("X-Delivery-Attempt") != "" {
			keys[q.BodyText] = q.Header.Get("Idempotency-Key")
		}
		if !q.Succeeded() {
			continue
		}
		if successes[q.BodyText]++; successes[q.BodyText] == 1 {
			first[q.BodyText] = i
			attempt, _ := strconv.Atoi(q.Header.Get("X-Delivery-Attempt"))
			failed[q.BodyText] = attempt > 2
		}
	}
	total, queued, direct, noResponse, duplicates := 0, 0, 0, 0, 0
	for _, requests := range sent {
		last, mayBeOvertaken := -1, false
		for _, r := range requests {
			total++
			n := successes[r.body]
			duplicates += max(n-1, 0)
			switch {
			case r.status == http.StatusAccepted:
				queued++
			case r.accepted():
				direct++
			case r.status == 0:
				noResponse++
			}
			if r.key != "" && keys[r.body] != "" && keys[r.body] != r.key {
				t.Errorf("%.20q was received with the key %q, sent with %q", r.body, keys[r.body], r.key)
			}
			switch {
			case r.accepted() && n == 0:
				t.Errorf("%.20q was accepted with %d and is lost", r.body, r.status)
			case r.accepted() && first[r.body] < last && !mayBeOvertaken:
				t.Errorf("%.20q was delivered out of order", r.body)
			case r.accepted() && first[r.body] > last:
				last, mayBeOvertaken = first[r.body], failed[r.body]
			case r.status != 0 && n > 0 && r.reason == "":
				t.Errorf("%.20q was rejected with %d and delivered", r.body, r.status)
			}
			delete(successes, r.body)
		}
	}
	for body := range successes {
		t.Errorf("%.40q was delivered but not sent", body)
	}
	t.Logf("%d requests: %d queued, %d with the upstream's response, %d without a response; %d duplicate deliveries", total, queued, direct, noResponse, duplicates)
	if queued < 30 {
		t.Errorf("only %d requests were queued", queued)
	}
}
