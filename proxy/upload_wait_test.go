package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// bodyTimeout is how long the upstreams of these tests wait for a body. It is longer than the time after which the proxy classifies a
// client as slow.
const bodyTimeout = 1500 * time.Millisecond

// bodyTimeoutUpstream is an HTTP/1.1 upstream that reads a body for bodyTimeout at most. Then it writes response and closes the
// connection, with a reset if reset is set. A response with status 200 is written before the body is read.
func bodyTimeoutUpstream(t *testing.T, response string, reset bool) string {
	return rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		q, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if strings.HasPrefix(response, "HTTP/1.1 200") {
			_, _ = io.WriteString(c, response)
		}
		_ = c.SetReadDeadline(time.Now().Add(bodyTimeout))
		if _, err := io.Copy(io.Discard, q.Body); !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if !strings.HasPrefix(response, "HTTP/1.1 200") {
			_, _ = io.WriteString(c, response)
		}
		if reset {
			_ = c.(*net.TCPConn).SetLinger(0)
		}
	})
}

// bodyTimeoutHTTP2Upstream is an HTTP/2 upstream that reads a body for bodyTimeout at most. Then it resets the stream, or closes the
// connection if closes is set.
func bodyTimeoutHTTP2Upstream(t *testing.T, closes bool) string {
	var s *httptest.Server
	s = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
		_, _ = io.Copy(io.Discard, r.Body)
		if closes {
			go s.CloseClientConnections() // waits for this handler
			<-r.Context().Done()
		}
		panic(http.ErrAbortHandler)
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return strings.Replace(s.URL, "http:", "h2c:", 1)
}

// uploadSlowly sends a body without an end, a byte every 20ms or, unless trickles is set, only the first byte. It returns the
// response's status, or 0 if there is no response.
func uploadSlowly(t *testing.T, address string, http2, trickles bool) (status int) {
	write := func(w io.Writer, piece string) {
		for {
			if _, err := io.WriteString(w, piece); err != nil || !trickles {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	if http2 {
		slow, body := io.Pipe()
		defer body.Close()
		go write(body, "x")
		r, _ := http.NewRequest(http.MethodPost, "http://"+address+"/svc", slow)
		res, err := h2cClient(t).Do(r)
		if err != nil {
			return 0
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	c, r := dial(t, address)
	_, _ = io.WriteString(c, "POST /svc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	go write(c, "1\r\nx\r\n")
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// An upstream that ends a request because the client sends its body too slowly has not failed: whether it closes the connection,
// resets it or the stream, or responds with 408.
func TestConnectionClosedDuringASlowUploadIsNoFailure(t *testing.T) {
	for name, c := range map[string]struct {
		upstream func(t *testing.T) string // called by each subtest, as some upstreams close all their connections
		status   int
	}{
		"close": {func(t *testing.T) string { return bodyTimeoutUpstream(t, "", false) }, 408},
		"reset": {func(t *testing.T) string { return bodyTimeoutUpstream(t, "", true) }, 408},
		"408": {func(t *testing.T) string {
			return bodyTimeoutUpstream(t, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", false)
		}, 408},
		"truncated response": {func(t *testing.T) string {
			return bodyTimeoutUpstream(t, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", false)
		}, 408},
		"HTTP/2, reset": {func(t *testing.T) string { return bodyTimeoutHTTP2Upstream(t, false) }, 408},
		"HTTP/2, close": {func(t *testing.T) string { return bodyTimeoutHTTP2Upstream(t, true) }, 408},
	} {
		for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
			for _, trickles := range []bool{false, true} {
				for _, keys := range []string{"", "retry: {attempts: 2, budget: 1, methods: [POST]}"} {
					t.Run(fmt.Sprintf("%s, %s, trickles %v, %s", name, version, trickles, keys), func(t *testing.T) {
						t.Parallel()
						_, address, recorded := start(t, routeConfig(c.upstream(t), "timeout: 60s", "breaker: {fail_max: 1, failure_statuses: [5xx, 408]}", keys))
						status := uploadSlowly(t, address, version == "HTTP/2", trickles)
						if status != c.status {
							t.Errorf("status %d, want %d", status, c.status)
						}
						o := recorded.next(t)
						if want := events.ResultCancelled; o.Failure != nil || name != "408" && o.Result != want {
							t.Errorf("%+v %+v", o, o.Failure)
						}
						if o.Attempts != 1 {
							t.Errorf("%d attempts", o.Attempts)
						}
					})
				}
			}
		}
	}
}

// A client whose upload takes most of the timeout leaves the upstream too little time to respond.
func TestUploadThatTakesMostOfTheTimeoutRecordsNoFailure(t *testing.T) {
	url := rawUpstream(t, func(_ int, _ net.Conn, r *bufio.Reader) {
		if q, err := http.ReadRequest(r); err == nil {
			_, _ = io.Copy(io.Discard, q.Body)
			_, _ = r.ReadByte() // until the proxy closes the connection
		}
	})
	for version, client := range map[string]*http.Client{"HTTP/1.1": {Transport: &http.Transport{}}, "HTTP/2": h2cClient(t)} {
		_, address, recorded := start(t, routeConfig(url, "timeout: 2s", "breaker: {fail_max: 1}"))
		slow, body := io.Pipe()
		time.AfterFunc(1500*time.Millisecond, func() { _, _ = body.Write([]byte("x")); _ = body.Close() })
		r, _ := http.NewRequest(http.MethodPost, "http://"+address+"/svc", slow)
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if o := recorded.next(t); res.StatusCode != 408 || o.Result != events.ResultCancelled {
			t.Errorf("%s: status %d, %+v %+v", version, res.StatusCode, o, o.Failure)
		}
	}
}

// An idle response stream is no failure while the upstream waits for the client's body. It is a failure once the upstream has
// received the whole body.
func TestStreamWaitingForTheClientRecordsNoFailure(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		_, _ = io.WriteString(w, "hello")
		_ = http.NewResponseController(w).Flush()
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}
	plain := httptest.NewServer(http.HandlerFunc(handler))
	t.Cleanup(plain.Close)
	for _, url := range []string{plain.URL, h2cUpstream(t, handler)} {
		for _, kind := range []string{"text/plain", "application/grpc"} {
			for _, complete := range []bool{false, true} {
				t.Run(fmt.Sprintf("%.3s, %s, complete body %v", url, kind, complete), func(t *testing.T) {
					t.Parallel()
					_, address, recorded := start(t, routeConfig(url, "idle_timeout: 1s", "breaker: {fail_max: 1}"))
					slow, body := io.Pipe()
					defer body.Close()
					go func() {
						_, _ = body.Write([]byte("x"))
						if complete {
							_ = body.Close()
						}
					}()
					r, _ := http.NewRequest(http.MethodPost, "http://"+address+"/svc", slow)
					r.Header.Set("Content-Type", kind)
					res, err := h2cClient(t).Do(r)
					if err != nil {
						t.Fatal(err)
					}
					defer res.Body.Close()
					if _, err := io.Copy(io.Discard, res.Body); err == nil && kind != "application/grpc" {
						t.Error("the stream ended without an error")
					}
					want := events.ResultCancelled
					if complete {
						want = events.ResultFailure
					}
					if o := recorded.next(t); o.Result != want {
						t.Errorf("%+v %+v, want %s", o, o.Failure, want)
					}
				})
			}
		}
	}
}
