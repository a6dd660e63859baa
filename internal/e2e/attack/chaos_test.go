package attack

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// serveFaulty serves a connection with random protocol violations and delays while healthy is false, and with valid
// responses while it is true.
func serveFaulty(c net.Conn, healthy *atomic.Bool) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		q, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if rand.IntN(4) > 0 || healthy.Load() {
			_, _ = io.Copy(io.Discard, q.Body)
		}
		response, closes := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false
		if !healthy.Load() {
			response, closes = faultyResponse()
		}
		if _, err := io.WriteString(c, response); err != nil || closes {
			return
		}
	}
}

// faultyResponse returns a random response, mostly invalid or incomplete, and whether the upstream closes the
// connection after it.
func faultyResponse() (response string, closes bool) {
	switch rand.IntN(14) {
	case 0:
		return "", true
	case 1:
		return "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nabc", true
	case 2:
		return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", true
	case 3:
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
	case 4:
		return "HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno", false
	case 5:
		return "HTTP/1.1 413 Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig", true
	case 6:
		return "nonsense\r\n\r\n", true
	case 7:
		return "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + strings.Repeat("x", 200_000), false
	case 8:
		return "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n", true
	}
	return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false
}

// chaosConfig returns the n-th configuration. Successive configurations enable different features.
func chaosConfig(address string, n int) string {
	extra := ""
	if n%2 == 0 {
		extra = "  extra: {prefix: /extra, upstream: 'http://127.0.0.1:1'}\n"
	}
	mode := [...]string{"enforce", "enforce", "shadow", "off"}[n%4]
	probe := [...]string{"", "/svc"}[n/4%2]
	commit := [...]string{"headers", "first_byte"}[n%2]
	return fmt.Sprintf(`max_in_flight: %[4]d
defaults:
  timeout: 0.2
  idle_timeout: 0.1
  stream_commit: %[5]s
  retry: {attempts: %[6]d, backoff: 1ms, max_backoff: 10ms, methods: [GET, POST, PUT]}
routes:
  svc:
    prefix: /svc
    upstream: 'http://%[1]s'
    max_in_flight: %[4]d
    breaker:
      mode: %[7]s
      fail_max: %[2]d
      failure_ratio: 0.9
      slow_call_ratio: 0.9
      slow_call_duration: 0.1
      window: 0.%[2]d
      recovery_timeout: 0.02
      recovery_backoff: {multiplier: 2, max: 0.1}
      half_open_requests: %[3]d
      probe: {path: "%[8]s", interval: 0.01, timeout: 0.1}
  open: {prefix: /open, upstream: 'http://%[1]s', breaker: {fail_max: 0}}
`, address, 3+n%3, 1+n%2, 10+n%7, commit, n%3, mode, probe) + extra
}

// TestChaosLeaksNoResources runs HTTP/1.1 and HTTP/2 clients that upload and cancel requests, an upstream that violates
// the protocol, and frequent reloads. Afterwards the proxy holds no permits, goroutines or descriptors of them, and the
// breaker closes again.
func TestChaosLeaksNoResources(t *testing.T) {
	var healthy atomic.Bool
	upstream, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer upstream.Close()
	go func() {
		for {
			c, err := upstream.Accept()
			if err != nil {
				return
			}
			go serveFaulty(c, &healthy)
		}
	}()
	address := upstream.Addr().String()
	p := harness.StartProxy(t, harness.Options{Config: chaosConfig(address, 0)})
	healthy.Store(true)
	p.Get("/svc")
	healthy.Store(false)
	goroutines, descriptors := p.Metric("go_goroutines"), p.Metric("process_open_fds")

	stop := make(chan struct{})
	var reloads sync.WaitGroup
	reloads.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-stop:
				return
			case <-tick.C:
				p.ReplaceConfig(chaosConfig(address, n))
			}
		}
	})
	var clients sync.WaitGroup
	for n := range 24 {
		clients.Go(func() { sendRandomRequests(t, p.URL, n%3 == 0) })
	}
	clients.Wait()
	close(stop)
	reloads.Wait()

	healthy.Store(true)
	// With a limit of one request in flight, a permit that was not released would block all requests.
	p.ReplaceConfig(strings.ReplaceAll(chaosConfig(address, 0), "max_in_flight: 10", "max_in_flight: 1"))
	harness.Eventually(t, "the last configuration is applied", func() bool {
		res, err := http.Get(p.AdminURL + "/api/v1/config")
		return strings.Contains(harness.ReadResponse(t, res, err).Body, `"max_in_flight":1,`)
	})
	harness.Eventually(t, "the breaker closes", func() bool { r := p.Get("/svc"); return r.Status == 200 && r.BreakerState() == "closed" })
	for _, service := range []string{"svc", "open"} {
		harness.Eventually(t, "no request is in flight", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="`+service+`"}`) == 0 })
	}
	harness.Eventually(t, "the goroutines have ended", func() bool { return p.Metric("go_goroutines") <= goroutines+20 })
	harness.Eventually(t, "the descriptors are closed", func() bool { return p.Metric("process_open_fds") <= descriptors+20 })
	if n := p.Metric(`cbproxy_config_reloads_total{result="failure"}`); n != 0 {
		t.Errorf("%v reloads failed", n)
	}
}

// sendRandomRequests sends requests with and without bodies, and cancels a tenth of them within 50 ms.
func sendRandomRequests(t *testing.T, url string, http2 bool) {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()
	for range 60 {
		method, body := http.MethodGet, io.Reader(nil)
		switch rand.IntN(5) {
		case 0:
			method, body = http.MethodPost, strings.NewReader(strings.Repeat("x", rand.IntN(1_000_000)))
		case 1:
			method, body = http.MethodPut, io.MultiReader(strings.NewReader(strings.Repeat("x", rand.IntN(300_000))))
		}
		timeout := harness.EventTimeout
		if rand.IntN(10) == 0 {
			timeout = time.Duration(rand.IntN(50)) * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		path := [...]string{"/svc/x", "/open/x"}[rand.IntN(2)]
		r, err := http.NewRequestWithContext(ctx, method, url+path, body)
		if err != nil {
			t.Error(err)
		} else if res, err := transport.RoundTrip(r); err == nil {
			_, _ = io.Copy(io.Discard, res.Body) // a truncated body is expected
			_ = res.Body.Close()
		}
		if timeout == harness.EventTimeout && ctx.Err() != nil {
			t.Errorf("%s %s took over %v", method, path, harness.EventTimeout)
		}
		cancel()
	}
}
