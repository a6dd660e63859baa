package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
)

// slowUploads are ways to send a request body of which the last byte is delayed.
var slowUploads = map[string]struct {
	http2, grpc bool
	length      int64 // -1: unknown
	expect      bool  // sends Expect: 100-continue
}{
	"short":             {length: 10},
	"long":              {length: 1 << 20},
	"chunked":           {length: -1},
	"100-continue":      {length: 10, expect: true},
	"short, HTTP/2":     {length: 10, http2: true},
	"long, HTTP/2":      {length: 1 << 20, http2: true},
	"no length, HTTP/2": {length: -1, http2: true},
	"gRPC stream":       {length: -1, http2: true, grpc: true},
}

// slowUpload sends a request to /svc/upload. The last byte of its body is sent when end is called. The returned channel receives
// the response's status and body.
func slowUpload(t *testing.T, name, address string) (end func(), response <-chan string) {
	t.Helper()
	c := slowUploads[name]
	slow, body := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/svc/upload", slow)
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = c.length
	client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute}}
	if c.http2 {
		client = &http.Client{Transport: h2cClient(t).Transport}
	}
	if c.grpc {
		r.Header.Set("Content-Type", "application/grpc")
		r.Header.Set("Te", "trailers")
	}
	if c.expect {
		r.Header.Set("Expect", "100-continue")
	}
	responses := make(chan string, 1)
	go func() {
		res, err := client.Do(r)
		if err != nil {
			responses <- err.Error()
			return
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		responses <- fmt.Sprint(res.StatusCode, " ", string(text), " ", err)
	}()
	size := max(c.length, 10)
	allButLast := make(chan struct{})
	go func() { defer close(allButLast); _, _ = io.WriteString(body, strings.Repeat("x", int(size-1))) }()
	t.Cleanup(func() { _ = body.Close() })
	return func() { <-allButLast; _, _ = io.WriteString(body, "x"); _ = body.Close() }, responses
}

// countingUpstream is an upstream that answers an upload with its length, and other requests at once. began receives a value when
// the handler of an upload starts.
func countingUpstream(t *testing.T, http2 bool) (url string, began <-chan struct{}) {
	uploads := make(chan struct{}, 100)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/upload" {
			uploads <- struct{}{}
			n, _ := io.Copy(io.Discard, r.Body)
			if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
				w.Header().Set("Content-Type", "application/grpc")
				w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
			}
			fmt.Fprint(w, n)
		}
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Config.Protocols.SetHTTP1(true)
	s.Start()
	t.Cleanup(s.Close)
	if http2 {
		return strings.Replace(s.URL, "http:", "h2c:", 1), uploads
	}
	return s.URL, uploads
}

// waitForProbe sends requests until the breaker admits one, and returns the status of its response.
func waitForProbe(t *testing.T, address string) int {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		res, body := get(t, "http://"+address+"/svc")
		if res.StatusCode != http.StatusServiceUnavailable {
			return res.StatusCode
		}
		if time.Now().After(limit) {
			t.Fatalf("no probe is admitted: %s", body)
		}
	}
}

// A slow upload may be admitted as a probe, but another request can take its permit, so that recovery does not wait for a client.
func TestSlowUploadsDoNotDelayRecovery(t *testing.T) {
	for name := range slowUploads {
		for _, http2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, upstream HTTP/2 %v", name, http2), func(t *testing.T) {
				t.Parallel()
				url, began := countingUpstream(t, http2)
				server, address, recorded := start(t, routeConfig(url, "timeout: 60s"))
				server.Breaker("svc").Force(events.HalfOpen, 0, "")
				end, response := slowUpload(t, name, address)
				if strings.HasPrefix(name, "short") {
					recorded.waitInFlight(t, 1)
				} else {
					<-began
				}
				if status := waitForProbe(t, address); status != 200 {
					t.Errorf("status %d", status)
				}
				if state := server.Breaker("svc").State(); state != events.Closed {
					t.Errorf("the breaker is %v", state)
				}
				select {
				case got := <-response:
					t.Fatalf("the upload has ended: %s", got)
				default:
				}
				end()
				if got, want := <-response, fmt.Sprint("200 ", max(slowUploads[name].length, 10), " <nil>"); got != want {
					t.Errorf("the upload: %s, want %s", got, want)
				}
			})
		}
	}
}

// An upload whose permit another request has taken still reports its result, so that a service that only gets slow uploads can
// recover.
func TestUploadThatLostItsPermitStillClosesTheBreaker(t *testing.T) {
	for name := range slowUploads {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, began := countingUpstream(t, false)
			server, address, _ := start(t, routeConfig(url, "timeout: 60s"))
			server.Breaker("svc").Force(events.HalfOpen, 0, "")
			end, response := slowUpload(t, name, address)
			if !strings.HasPrefix(name, "short") {
				<-began
				takeAndReturnPermit(t, server.Breaker("svc"))
			}
			end()
			if got, want := <-response, fmt.Sprint("200 ", max(slowUploads[name].length, 10), " <nil>"); got != want {
				t.Errorf("the upload: %s, want %s", got, want)
			}
			waitForState(t, server.Breaker("svc"), events.Closed)
		})
	}
}

// takeAndReturnPermit takes the permit of a probe that waits for its client, and returns it.
func takeAndReturnPermit(t *testing.T, b *breaker.Breaker) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		if call, err := b.Allow(); err == nil { // the upload loses its permit
			call.Cancel()
			return
		}
	}
	t.Fatal("the breaker gives no permit")
}

// A short body is read before its request is admitted as a probe. If it is incomplete, that is a client error: the upstream gets no
// request and the breaker stays half-open.
func TestIncompleteShortBodyIsNotAProbe(t *testing.T) {
	url, began := countingUpstream(t, false)
	server, address, recorded := start(t, routeConfig(url, "timeout: 0.5"))
	server.Breaker("svc").Force(events.HalfOpen, 0, "")
	for name, c := range map[string]struct{ request, status string }{
		"slow":      {"POST /svc/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", "408"},
		"truncated": {"POST /svc/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc" + halfClose, "400"},
	} {
		if status := rawStatusLine(t, address, c.request); !strings.Contains(status, " "+c.status+" ") {
			t.Errorf("%s: %s, want %s", name, status, c.status)
		}
		if o := recorded.next(t); o.Result != events.ResultCancelled || o.State != events.HalfOpen {
			t.Errorf("%s: %+v", name, o)
		}
	}
	if len(began) > 0 {
		t.Error("the upload reached the upstream")
	}
	if state := server.Breaker("svc").State(); state != events.HalfOpen {
		t.Errorf("the breaker is %v", state)
	}
	if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 200 {
		t.Errorf("the next probe: status %d", res.StatusCode)
	}
}

// A probe whose client reads the response slowly does not delay recovery either.
func TestSlowDownloadsDoNotDelayRecovery(t *testing.T) {
	const size = 64 << 20
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			_, _ = io.CopyN(w, zeros{}, size)
		}
	}))
	defer upstream.Close()
	for version, client := range map[string]*http.Client{"HTTP/1.1": {Transport: &http.Transport{}}, "HTTP/2": {Transport: h2cClient(t).Transport}} {
		server, address, _ := start(t, routeConfig(upstream.URL, "timeout: 60s"))
		server.Breaker("svc").Force(events.HalfOpen, 0, "")
		res, err := client.Get("http://" + address + "/svc/large")
		if err != nil {
			t.Fatal(err)
		}
		if status := waitForProbe(t, address); status != 200 || server.Breaker("svc").State() != events.Closed {
			t.Errorf("%s: status %d, the breaker is %v", version, status, server.Breaker("svc").State())
		}
		if n, err := io.Copy(io.Discard, res.Body); n != size || err != nil {
			t.Errorf("%s: %d bytes, %v", version, n, err)
		}
		_ = res.Body.Close()
	}
}

func TestProbesAreLimitedToHalfOpenRequests(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	}))
	defer upstream.Close()
	server, address, recorded := start(t, routeConfig(upstream.URL, "breaker: {half_open_requests: 2}"))
	server.Breaker("svc").Force(events.HalfOpen, 0, "")
	for range 2 {
		go func() { _, _ = http.Get("http://" + address + "/svc") }()
		<-arrived
	}
	res, _ := get(t, "http://"+address+"/svc")
	if res.StatusCode != 503 || res.Header.Get("X-Circuit-Breaker-State") != "half-open" || res.Header.Get("Retry-After") != "" {
		t.Errorf("a third probe: %d %v", res.StatusCode, res.Header)
	}
	recorded.next(t)
	close(release)
	recorded.next(t)
	recorded.next(t)
	if state := server.Breaker("svc").State(); state != events.Closed {
		t.Errorf("after two successful probes the breaker is %v", state)
	}
}
