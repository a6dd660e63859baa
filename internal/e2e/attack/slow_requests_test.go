package attack

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"cbproxy/internal/e2e/harness"
)

// closeDeadline is far above the limits in shortLimits and below the default limits.
const closeDeadline = 8 * time.Second

// shortLimits are limits that a slow client exceeds within a test.
const shortLimits = "limits: {read_header_timeout: 500ms, idle_timeout: 500ms, body_bytes: 1MiB}\n"

// sendSlowly sends data byte by byte, and then filler repeatedly until the connection is closed.
func sendSlowly(c net.Conn, data, filler string) {
	for i := 0; ; i++ {
		b := filler[i%len(filler):][:1]
		if i < len(data) {
			b = data[i : i+1]
		}
		if _, err := io.WriteString(c, b); err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestSlowHeaderSectionsCloseConnection checks that the proxy closes connections whose request line and header section do
// not arrive within read_header_timeout, or idle_timeout, and forwards nothing of them.
func TestSlowHeaderSectionsCloseConnection(t *testing.T) {
	t.Parallel()
	u := startRecordingUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: shortLimits + strictBreakerConfig(u.URL(), "")})
	for name, attack := range map[string]func(c net.Conn){
		"no bytes":     func(net.Conn) {},
		"one byte":     func(c net.Conn) { _, _ = io.WriteString(c, "G") },
		"one line":     func(c net.Conn) { _, _ = io.WriteString(c, "GET /svc/slow HTTP/1.1\r\n") },
		"byte by byte": func(c net.Conn) { sendSlowly(c, "", "GET /svc/slow HTTP/1.1\r\nHost: x\r\n") },
		"endless fields": func(c net.Conn) {
			_, _ = io.WriteString(c, "GET /svc/slow HTTP/1.1\r\n")
			sendSlowly(c, "", "a: b\r\n")
		},
		"empty lines":     func(c net.Conn) { sendSlowly(c, "", "\r\n") },
		"partial preface": func(c net.Conn) { _, _ = io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM") },
		"slow preface":    func(c net.Conn) { sendSlowly(c, http2.ClientPreface[:23], " ") },
		"second request": func(c net.Conn) {
			_, _ = io.WriteString(c, "GET /svc/first HTTP/1.1\r\nHost: x\r\n\r\n")
			sendSlowly(c, "GET /svc/slow HTTP/1.1\r\nHost: x\r\n", "a: b\r\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			c, r := p.Dial()
			defer c.Close()
			go attack(c)
			if _, err := io.Copy(io.Discard, r); isTimeout(err) || time.Since(began) > closeDeadline {
				t.Errorf("the connection was open for %v: %v", time.Since(began), err)
			}
		})
	}
	t.Cleanup(func() { // after the parallel subtests
		for _, line := range requestLines(u.takeRequests()) {
			if line != "GET /first" {
				t.Errorf("the upstream saw %s", line)
			}
		}
		checkHealthy(p)
	})
}

// TestSlowBodiesGet408 checks that a body that does not arrive within the route's timeout counts as a client error.
func TestSlowBodiesGet408(t *testing.T) {
	t.Parallel()
	u := startRecordingUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: strictBreakerConfig(u.URL(), ", timeout: 0.5")})
	const head = "POST /svc HTTP/1.1\r\nHost: x\r\n"
	attacks := map[string]func(c net.Conn){
		"no body": func(c net.Conn) { _, _ = io.WriteString(c, head+"Content-Length: 1000\r\n\r\n") },
		"byte by byte": func(c net.Conn) {
			_, _ = io.WriteString(c, head+"Content-Length: 1000000\r\n\r\n")
			sendSlowly(c, "", "x")
		},
		"chunk by chunk": func(c net.Conn) {
			_, _ = io.WriteString(c, head+"Transfer-Encoding: chunked\r\n\r\n")
			sendSlowly(c, "", "1\r\nx\r\n")
		},
		"slow chunk size": func(c net.Conn) {
			_, _ = io.WriteString(c, head+"Transfer-Encoding: chunked\r\n\r\n")
			sendSlowly(c, "", "0")
		},
		"slow trailers": func(c net.Conn) {
			_, _ = io.WriteString(c, head+"Transfer-Encoding: chunked\r\n\r\n0\r\n")
			sendSlowly(c, "", "a: b\r\n")
		},
	}
	var attackers sync.WaitGroup
	for name, attack := range attacks {
		attackers.Go(func() {
			c, r := p.Dial()
			defer c.Close()
			go attack(c)
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			if response := harness.ReadResponse(t, res, nil); !isProblem(response) || response.Status != 408 && !(response.Status == 400 && name == "slow chunk size") {
				t.Errorf("%s: %+v", name, response)
			}
			if _, err := io.Copy(io.Discard, r); isTimeout(err) {
				t.Errorf("%s: the connection is still open", name)
			}
		})
	}
	attackers.Go(func() {
		c := dialHTTP2(p)
		c.sendHeaders(1, c.encodeRequest("POST", "/svc"), false)
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for tick := time.NewTicker(50 * time.Millisecond); ; <-tick.C {
				select {
				case <-stop:
					return
				default:
					_ = c.WriteData(1, false, []byte("x"))
					_ = c.out.Flush()
				}
			}
		}()
		result := c.awaitResultReadOnly(1)
		close(stop)
		<-stopped
		if result.Status != 408 || !isProblem(result.Response) {
			t.Errorf("HTTP/2: %v %+v", result, result.Response)
		}
	})
	attackers.Wait()
	checkHealthy(p)
	if n := p.RequestCounts("svc")["cancelled"]; n != float64(len(attacks)+1) {
		t.Errorf("%v requests are counted as cancelled", n)
	}
}

// TestIdleConnectionsAreClosed checks that the proxy closes HTTP/1.1 and HTTP/2 connections without a request after
// idle_timeout, even if the client sends incomplete frames or pings.
func TestIdleConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	u := startRecordingUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: shortLimits + strictBreakerConfig(u.URL(), "")})
	t.Run("HTTP/1.1", func(t *testing.T) {
		t.Parallel()
		c, r := p.Dial()
		defer c.Close()
		began := time.Now()
		_, _ = io.WriteString(c, "GET /svc/first HTTP/1.1\r\nHost: x\r\n\r\n")
		if got := readResponses(t, r); len(got) != 1 || got[0].Status != 200 || time.Since(began) > closeDeadline {
			t.Errorf("after %v: %v", time.Since(began), got)
		}
	})
	for name, attack := range map[string]func(c *rawHTTP2){
		"no frame":        func(*rawHTTP2) {},
		"after a request": func(c *rawHTTP2) { c.sendHeaders(1, c.encodeRequest("GET", "/svc/first"), true); c.awaitResult(1) },
		"partial frame": func(c *rawHTTP2) {
			_, _ = c.out.WriteString("\x00\x00\x20\x01\x04\x00\x00\x00\x01abc")
			_ = c.out.Flush()
		},
		"partial frame header": func(c *rawHTTP2) { _, _ = c.out.WriteString("\x00\x00"); _ = c.out.Flush() },
		"partial header block": func(c *rawHTTP2) {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encodeRequest("GET", "/svc/slow"), EndStream: true})
			_ = c.out.Flush()
		},
		"pings": func(c *rawHTTP2) {
			go func() {
				for c.WritePing(false, [8]byte{}) == nil && c.out.Flush() == nil {
					time.Sleep(50 * time.Millisecond) // pings do not keep an idle connection open
				}
			}()
		},
	} {
		t.Run("HTTP/2, "+name, func(t *testing.T) {
			t.Parallel()
			c := dialHTTP2(p)
			attack(c) // "pings" continues in the background
			began := time.Now()
			for {
				if _, err := c.ReadFrame(); isTimeout(err) || time.Since(began) > closeDeadline {
					t.Fatalf("the connection is still open: %v", err)
				} else if _, ok := err.(http2.StreamError); err != nil && !ok {
					return
				}
			}
		})
	}
	t.Cleanup(func() {
		for _, line := range requestLines(u.takeRequests()) {
			if line != "GET /first" {
				t.Errorf("the upstream saw %s", line)
			}
		}
		checkHealthy(p)
	})
}

// TestSilentConnectionsLeakNoResources checks that hundreds of connections without a request do not delay other
// clients, and that the proxy closes them.
func TestSilentConnectionsLeakNoResources(t *testing.T) {
	t.Parallel()
	u := startRecordingUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: "limits: {read_header_timeout: 2}\n" + strictBreakerConfig(u.URL(), "")})
	checkNormalRequest(p)
	goroutines, descriptors := p.Metric("go_goroutines"), p.Metric("process_open_fds")
	var silent []net.Conn
	for range 400 {
		c, _ := p.Dial()
		defer c.Close()
		silent = append(silent, c)
	}
	checkNormalRequest(p)
	for n, c := range silent {
		if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Fatalf("connection %d: %v", n, err)
		}
	}
	harness.Eventually(t, "the goroutines have ended", func() bool { return p.Metric("go_goroutines") <= goroutines+10 })
	harness.Eventually(t, "the descriptors are closed", func() bool { return p.Metric("process_open_fds") <= descriptors+10 })
	checkHealthy(p)
	if fmt.Sprint(requestLines(u.takeRequests())) != "[GET /fine GET /fine GET /fine]" {
		t.Error("the upstream received other requests")
	}
}

// TestManySlowUploadsDoNotOpenBreaker runs a hundred clients that send their bodies too slowly. Each gets 408 and counts
// as a client error, whatever the proxy is doing when the timeout passes. The timeout suffices to connect all of them to
// the upstream, even on a busy machine.
func TestManySlowUploadsDoNotOpenBreaker(t *testing.T) {
	t.Parallel()
	u := startRecordingUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: strictBreakerConfig(u.URL(), ", timeout: 3")})
	var clients sync.WaitGroup
	for range 100 {
		clients.Go(func() {
			c, r := p.Dial()
			defer c.Close()
			_, _ = io.WriteString(c, "POST /svc HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
			go sendSlowly(c, "", "x")
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if response := harness.ReadResponse(t, res, nil); response.Status != 408 {
				t.Errorf("response %+v, want status 408", response)
			}
		})
	}
	clients.Wait()
	checkHealthy(p)
}
