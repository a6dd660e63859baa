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

// soon is when a limit of half a second has surely had its effect, and a default has not.
const soon = 8 * time.Second

const shortLimits = "limits: {read_header_timeout: 500ms, idle_timeout: 500ms, body_bytes: 1MiB}\n"

// dribble sends what a client has to say byte by byte, and then filler for ever, until the
// connection breaks.
func dribble(c net.Conn, say, filler string) {
	for i := 0; ; i++ {
		b := filler[i%len(filler):][:1]
		if i < len(say) {
			b = say[i : i+1]
		}
		if _, err := io.WriteString(c, b); err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond) // that slowness is what is tested
	}
}

func TestSlowHeaderSectionsCloseConnection(t *testing.T) {
	t.Parallel()
	u := startWitness(t)
	p := harness.StartProxy(t, harness.Options{Config: shortLimits + oneMistake(u.URL(), "")})
	for name, attack := range map[string]func(c net.Conn){
		"nothing":           func(net.Conn) {},
		"a byte":            func(c net.Conn) { _, _ = io.WriteString(c, "G") },
		"a line":            func(c net.Conn) { _, _ = io.WriteString(c, "GET /svc/slow HTTP/1.1\r\n") },
		"a dribble":         func(c net.Conn) { dribble(c, "", "GET /svc/slow HTTP/1.1\r\nHost: x\r\n") },
		"endless fields":    func(c net.Conn) { _, _ = io.WriteString(c, "GET /svc/slow HTTP/1.1\r\n"); dribble(c, "", "a: b\r\n") },
		"empty lines":       func(c net.Conn) { dribble(c, "", "\r\n") },
		"half a preface":    func(c net.Conn) { _, _ = io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM") },
		"a preface, slowly": func(c net.Conn) { dribble(c, http2.ClientPreface[:23], " ") },
		"a second request": func(c net.Conn) {
			_, _ = io.WriteString(c, "GET /svc/first HTTP/1.1\r\nHost: x\r\n\r\n")
			dribble(c, "GET /svc/slow HTTP/1.1\r\nHost: x\r\n", "a: b\r\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			c, r := p.Dial()
			defer c.Close()
			go attack(c)
			if _, err := io.Copy(io.Discard, r); isTimeout(err) || time.Since(began) > soon {
				t.Errorf("the connection was ended after %v: %v", time.Since(began), err)
			}
		})
	}
	t.Cleanup(func() { // when the attacks are over
		for _, line := range lines(u.take()) {
			if line != "GET /first" {
				t.Errorf("the upstream saw %s", line)
			}
		}
		checkUnharmed(p)
	})
}

// A body that does not arrive within the route's timeout is the client's fault.
func TestSlowBodiesGet408(t *testing.T) {
	t.Parallel()
	u := startWitness(t)
	p := harness.StartProxy(t, harness.Options{Config: oneMistake(u.URL(), ", timeout: 0.5")})
	const head = "POST /svc HTTP/1.1\r\nHost: x\r\n"
	attacks := map[string]func(c net.Conn){
		"no body": func(c net.Conn) { _, _ = io.WriteString(c, head+"Content-Length: 1000\r\n\r\n") },
		"a dribble": func(c net.Conn) {
			_, _ = io.WriteString(c, head+"Content-Length: 1000000\r\n\r\n")
			dribble(c, "", "x")
		},
		"dribbling chunks": func(c net.Conn) {
			_, _ = io.WriteString(c, head+"Transfer-Encoding: chunked\r\n\r\n")
			dribble(c, "", "1\r\nx\r\n")
		},
		"a dribbling size": func(c net.Conn) {
			_, _ = io.WriteString(c, head+"Transfer-Encoding: chunked\r\n\r\n")
			dribble(c, "", "0")
		},
		"slow trailers": func(c net.Conn) {
			_, _ = io.WriteString(c, head+"Transfer-Encoding: chunked\r\n\r\n0\r\n")
			dribble(c, "", "a: b\r\n")
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
			if answer := harness.ReadResponse(t, res, nil); !isProblem(answer) || answer.Status != 408 && !(answer.Status == 400 && name == "a dribbling size") {
				t.Errorf("%s: %+v", name, answer)
			}
			if _, err := io.Copy(io.Discard, r); isTimeout(err) {
				t.Errorf("%s: the connection goes on", name)
			}
		})
	}
	attackers.Go(func() {
		c := dialHTTP2(p)
		c.begin(1, c.request("POST", "/svc"), false)
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
		e := c.awaitQuietly(1)
		close(stop)
		<-stopped
		if e.Status != 408 || !isProblem(e.Response) {
			t.Errorf("over HTTP/2: %v %+v", e, e.Response)
		}
	})
	attackers.Wait()
	checkUnharmed(p)
	if n := p.RequestCounts("svc")["cancelled"]; n != float64(len(attacks)+1) {
		t.Errorf("%v cancelled", n)
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	u := startWitness(t)
	p := harness.StartProxy(t, harness.Options{Config: shortLimits + oneMistake(u.URL(), "")})
	t.Run("HTTP/1.1", func(t *testing.T) {
		t.Parallel()
		c, r := p.Dial()
		defer c.Close()
		began := time.Now()
		_, _ = io.WriteString(c, "GET /svc/first HTTP/1.1\r\nHost: x\r\n\r\n")
		if got := answers(t, r); len(got) != 1 || got[0].Status != 200 || time.Since(began) > soon {
			t.Errorf("after %v: %v", time.Since(began), got)
		}
	})
	for name, attack := range map[string]func(c *rawHTTP2){
		"nothing":         func(*rawHTTP2) {},
		"after a request": func(c *rawHTTP2) { c.begin(1, c.request("GET", "/svc/first"), true); c.await(1) },
		"half a frame": func(c *rawHTTP2) {
			_, _ = c.out.WriteString("\x00\x00\x20\x01\x04\x00\x00\x00\x01abc")
			_ = c.out.Flush()
		},
		"half a frame header": func(c *rawHTTP2) { _, _ = c.out.WriteString("\x00\x00"); _ = c.out.Flush() },
		"half a header block": func(c *rawHTTP2) {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.request("GET", "/svc/slow"), EndStream: true})
			_ = c.out.Flush()
		},
		"pings": func(c *rawHTTP2) {
			go func() {
				for c.WritePing(false, [8]byte{}) == nil && c.out.Flush() == nil {
					time.Sleep(50 * time.Millisecond) // a busy connection, and idle all the same
				}
			}()
		},
	} {
		t.Run("HTTP/2, "+name, func(t *testing.T) {
			t.Parallel()
			c := dialHTTP2(p)
			attack(c) // "pings" goes on in the background
			began := time.Now()
			for {
				if _, err := c.ReadFrame(); isTimeout(err) || time.Since(began) > soon {
					t.Fatalf("the connection goes on: %v", err)
				} else if _, ok := err.(http2.StreamError); err != nil && !ok {
					return
				}
			}
		})
	}
	t.Cleanup(func() {
		for _, line := range lines(u.take()) {
			if line != "GET /first" {
				t.Errorf("the upstream saw %s", line)
			}
		}
		checkUnharmed(p)
	})
}

// Hundreds of silent connections delay no other client, and leave nothing behind.
func TestSilentConnectionsLeakNoResources(t *testing.T) {
	t.Parallel()
	u := startWitness(t)
	p := harness.StartProxy(t, harness.Options{Config: "limits: {read_header_timeout: 2}\n" + oneMistake(u.URL(), "")})
	checkServes(p)
	goroutines, descriptors := p.Metric("go_goroutines"), p.Metric("process_open_fds")
	var silent []net.Conn
	for range 400 {
		c, _ := p.Dial()
		defer c.Close()
		silent = append(silent, c)
	}
	checkServes(p)
	for n, c := range silent {
		if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Fatalf("connection %d: %v", n, err)
		}
	}
	harness.Eventually(t, "no goroutine is left over", func() bool { return p.Metric("go_goroutines") <= goroutines+10 })
	harness.Eventually(t, "no descriptor is left over", func() bool { return p.Metric("process_open_fds") <= descriptors+10 })
	checkUnharmed(p)
	if fmt.Sprint(lines(u.take())) != "[GET /fine GET /fine GET /fine]" {
		t.Error("the upstream was asked more")
	}
}

// A hundred clients that send bodies without a pause and without an end, all too slowly:
// whatever the proxy is doing at the moment when their time is up, the clients are to
// blame. Their time is more than a busy machine needs to connect all of them to the upstream.
func TestManySlowUploadsDoNotOpenBreaker(t *testing.T) {
	t.Parallel()
	u := startWitness(t)
	p := harness.StartProxy(t, harness.Options{Config: oneMistake(u.URL(), ", timeout: 3")})
	var clients sync.WaitGroup
	for range 100 {
		clients.Go(func() {
			c, r := p.Dial()
			defer c.Close()
			_, _ = io.WriteString(c, "POST /svc HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
			go dribble(c, "", "x")
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if answer := harness.ReadResponse(t, res, nil); answer.Status != 408 {
				t.Errorf("%+v", answer)
			}
		})
	}
	clients.Wait()
	checkUnharmed(p)
}
