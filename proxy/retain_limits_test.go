package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// An upstream that reads nothing blocks an upload that is larger than the kernel's buffers. After the timeout, the proxy reads the
// rest of the body from the client and passes the whole body to the fallback.
func TestBlockedUploadIsRetainedForTheFallback(t *testing.T) {
	if httpMode != "auto" {
		t.Skip("such a long body uses http.Transport in both modes")
	}
	url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		limitReadBuffer(t, c)
		_, _ = http.ReadRequest(r)
		<-t.Context().Done()
	})
	const size = 8 << 20
	body := strings.Repeat("x", size)
	for _, up := range uploads[:2] {
		for version, client := range map[string]*http.Client{"HTTP/1.1": {Transport: &http.Transport{}}, "HTTP/2": h2cClient(t)} {
			t.Run(up.name+", "+version, func(t *testing.T) { // not parallel: a client that gets no processor time is a slow client
				text, strategyCalls := withBodyRecorder(t, size, "limits: {body_bytes: 16MiB}\n"+routeConfig(url, "timeout: 2s"))
				_, address, _ := start(t, text)
				res, err := client.Post("http://"+address+"/svc", "", up.send(body))
				if err != nil {
					t.Fatal(err)
				}
				_ = res.Body.Close()
				if call := nextStrategyCall(t, strategyCalls); call.err != nil || call.body != body || call.reason != events.ReasonTimeout || call.contextErr != nil {
					t.Errorf("the strategy got %d bytes, %v, %s, %v", len(call.body), call.err, call.reason, call.contextErr)
				}
			})
		}
	}
}

// A client that stops sending its body is answered within seconds, and its connection is closed.
func TestStalledUploadIsAnsweredSoon(t *testing.T) {
	readHalf := func(_ int, _ net.Conn, r *bufio.Reader) {
		if q, err := http.ReadRequest(r); err == nil {
			_, _ = io.ReadFull(q.Body, make([]byte, 5))
		}
	}
	readAll := func(_ int, _ net.Conn, r *bufio.Reader) { _, _ = r.WriteTo(io.Discard) }
	closed := func(testing.TB, func(int, net.Conn, *bufio.Reader)) string { return closedPort(t) }
	serving := func(t testing.TB, handle func(int, net.Conn, *bufio.Reader)) string { return rawUpstream(t, handle) }
	for name, c := range map[string]struct {
		upstream func(testing.TB, func(int, net.Conn, *bufio.Reader)) string
		handle   func(int, net.Conn, *bufio.Reader)
		state    events.State
		keys     string
		status   int
		reason   events.Reason
	}{
		"open":         {closed, nil, events.Open, "", 299, events.ReasonOpen},
		"connect":      {closed, nil, events.Closed, "", 299, events.ReasonConnect},
		"reset":        {serving, readHalf, events.Closed, "", 299, events.ReasonReset},
		"timeout":      {serving, readAll, events.Closed, "timeout: 300ms", 408, ""}, // the client caused the timeout
		"with retries": {serving, readHalf, events.Closed, "retry: {attempts: 2, backoff: 1ms, methods: [PUT]}", 299, events.ReasonReset},
	} {
		for framing, head := range map[string]string{"length": "Content-Length: 10\r\n\r\nhello", "chunks": "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"} {
			t.Run(name+", "+framing, func(t *testing.T) {
				t.Parallel()
				text, strategyCalls := withBodyRecorder(t, 1000, routeConfig(c.upstream(t, c.handle), c.keys, "breaker: {fail_max: 0}"))
				server, address, recorded := start(t, text)
				if c.state == events.Open {
					server.Breaker("svc").Force(events.Open, 0, "test")
				}
				conn, r := dial(t, address)
				_, _ = io.WriteString(conn, "PUT /svc HTTP/1.1\r\nHost: x\r\n"+head)
				began := time.Now()
				res := nextResponse(t, r)
				if took := time.Since(began); res.StatusCode != c.status || took > 4*time.Second || res.Header.Get("Connection") != "close" && !res.Close {
					t.Errorf("status %d after %v, %v", res.StatusCode, took, res.Header)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				if c.reason != "" {
					if call := nextStrategyCall(t, strategyCalls); call.err == nil || call.body != "" || call.reason != c.reason || call.contextErr != nil {
						t.Errorf("the strategy got %+v", call)
					}
				}
				if o := recorded.next(t); c.reason == events.ReasonReset && o.Result != events.ResultFailure {
					t.Errorf("%+v", o)
				}
				_ = conn.SetReadDeadline(time.Now().Add(15 * time.Second))
				if _, err := r.ReadByte(); err != io.EOF && !strings.Contains(fmt.Sprint(err), "reset") {
					t.Errorf("the connection is not closed: %v", err)
				}
			})
		}
	}
}

// The proxy does not wait for the whole body of a client that sends a byte every 100ms.
func TestTricklingUploadIsAnsweredSoon(t *testing.T) {
	t.Parallel()
	text, strategyCalls := withBodyRecorder(t, 1000, routeConfig(closedPort(t), "breaker: {fail_max: 0}"))
	_, address, _ := start(t, text)
	conn, r := dial(t, address)
	_, _ = io.WriteString(conn, "PUT /svc HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
	go func() {
		for {
			if _, err := conn.Write([]byte("x")); err != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	began := time.Now()
	res := nextResponse(t, r)
	if took := time.Since(began); took > 9*time.Second || res.StatusCode != 299 {
		t.Errorf("status %d after %v", res.StatusCode, took)
	}
	if call := nextStrategyCall(t, strategyCalls); call.err == nil {
		t.Errorf("the strategy got %+v, want an error", call)
	}
}

func TestBodyBeyondALimitIsNotRetained(t *testing.T) {
	for name, c := range map[string]struct {
		size   int
		status int
		whole  bool
	}{
		"the strategy's limit":       {1000, 299, true},
		"above the strategy's limit": {1001, 299, false},
		"far above the strategy's":   {60_000, 299, false},
		"above limits.body_bytes":    {70_000, 413, false},
	} {
		for _, up := range uploads[:2] {
			for version, client := range map[string]*http.Client{"HTTP/1.1": {Transport: &http.Transport{}}, "HTTP/2": h2cClient(t)} {
				t.Run(name+", "+up.name+", "+version, func(t *testing.T) {
					t.Parallel()
					text, strategyCalls := withBodyRecorder(t, 1000, "limits: {body_bytes: 64KiB}\n"+routeConfig(closedPort(t), "breaker: {fail_max: 0}"))
					_, address, _ := start(t, text)
					for range 2 {
						res, err := client.Post("http://"+address+"/svc", "", up.send(strings.Repeat("x", c.size)))
						if err != nil {
							t.Fatal(err)
						}
						_, _ = io.Copy(io.Discard, res.Body)
						_ = res.Body.Close()
						if c.status == 413 && up.name != "known length" {
							if res.StatusCode != 413 && res.StatusCode != 299 { // the body may not be read up to limits.body_bytes
								t.Errorf("status %d", res.StatusCode)
							}
							continue
						}
						if res.StatusCode != c.status {
							t.Errorf("status %d, want %d", res.StatusCode, c.status)
						}
						if c.status != 299 {
							continue
						}
						if call := nextStrategyCall(t, strategyCalls); (call.err == nil) != c.whole || c.whole && len(call.body) != c.size || !c.whole && call.body != "" {
							t.Errorf("the strategy got %d bytes, %v", len(call.body), call.err)
						}
					}
				})
			}
		}
	}
}

// A client that sends Expect: 100-continue gets 100 only if the proxy needs the body.
func TestExpectContinueWithAFallback(t *testing.T) {
	for name, c := range map[string]struct {
		size int
		want bool // 100 (Continue)
	}{"within the strategy's limit": {5, true}, "above it": {2000, false}} {
		t.Run(name, func(t *testing.T) {
			text, strategyCalls := withBodyRecorder(t, 1000, routeConfig(closedPort(t)))
			server, address, _ := start(t, text)
			server.Breaker("svc").Force(events.Open, 0, "test")
			conn, r := dial(t, address)
			for range 2 {
				fmt.Fprintf(conn, "PUT /svc HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", c.size)
				if !c.want {
					res := nextResponse(t, r)
					if call := nextStrategyCall(t, strategyCalls); res.StatusCode != 299 || call.err == nil || !res.Close {
						t.Errorf("status %d, %+v, %v", res.StatusCode, call, res.Header)
					}
					return // and the connection is closed
				}
				if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != 100 {
					t.Fatalf("%v, %v, want 100", res, err)
				}
				_, _ = io.WriteString(conn, "hello")
				res := nextResponse(t, r)
				body, _ := io.ReadAll(res.Body)
				if call := nextStrategyCall(t, strategyCalls); res.StatusCode != 299 || call.err != nil || call.body != "hello" || string(body) != "hello" || res.Close {
					t.Errorf("status %d, %+v", res.StatusCode, call)
				}
			}
		})
	}
}

// If a client disconnects while the fallback waits for the body, the strategy is called with an error and the request ends.
func TestFallbackGetsAnErrorIfTheClientDisconnects(t *testing.T) {
	text, strategyCalls := withBodyRecorder(t, 1000, routeConfig(closedPort(t)))
	server, address, recorded := start(t, text)
	server.Breaker("svc").Force(events.Open, 0, "test")
	conn, _ := dial(t, address)
	_, _ = io.WriteString(conn, "PUT /svc HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
	_ = conn.Close()
	if call := nextStrategyCall(t, strategyCalls); call.err == nil {
		t.Errorf("the strategy got %+v, want an error", call)
	}
	recorded.next(t)
}

// Buffers are reused by later requests, and never shared by concurrent ones.
func TestStrategyReceivesTheBodyOfItsRequest(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch n, _ := strconv.Atoi(r.Header.Get("X-Id")); n % 4 {
		case 0:
			w.WriteHeader(503) // without reading the upload
		case 1:
			_, _ = io.CopyN(io.Discard, r.Body, 100)
			panic(http.ErrAbortHandler)
		case 2:
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(503)
		default:
			body, _ := io.ReadAll(r.Body)
			_, _ = w.Write(body)
		}
	}))
	s.Config.ErrorLog = nil
	defer s.Close()
	text, strategyCalls := withBodyRecorder(t, 100_000, routeConfig(s.URL, "breaker: {fail_max: 0}", "retry: {attempts: 1, backoff: 1ms, methods: [PUT], budget: 1}"))
	_, address, _ := start(t, text)
	httpClients := []*http.Client{{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}, h2cClient(t)}
	var clients sync.WaitGroup
	for c := range 16 {
		clients.Go(func() {
			for i := range 25 {
				id := c*1000 + i
				body := strings.Repeat(fmt.Sprintf("%08d", id), 1+rand.IntN(10_000))
				method := []string{"PUT", "POST"}[i%2]
				r, _ := http.NewRequest(method, "http://"+address+"/svc", uploads[i%2].send(body))
				r.Header.Set("X-Id", strconv.Itoa(id))
				res, err := httpClients[c%2].Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if err != nil || string(got) != body && (len(got) > 0 || res.StatusCode == 200) {
					t.Errorf("%d: status %d, %v: %d of %d bytes, from %.16q", id, res.StatusCode, err, len(got), len(body), got)
				}
			}
		})
	}
	clients.Wait()
	whole := 0
	for len(strategyCalls) > 0 {
		call := <-strategyCalls
		if call.err == nil {
			whole++
		}
		if strings.Repeat(call.body[:min(8, len(call.body))], len(call.body)/8) != call.body {
			t.Errorf("a body has parts of another request's: %.40q", call.body)
		}
	}
	if whole < 100 {
		t.Errorf("only %d strategy calls had the body, want at least 100", whole)
	}
}
