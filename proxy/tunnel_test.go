package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/certtest"
	"cbproxy/internal/events"
)

const (
	upgradeRequest   = "GET /svc HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
	switchedResponse = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
)

// Data that a client sends before it has received the 101 response is forwarded through the tunnel.
func TestBytesSentBefore101PassThroughTheTunnel(t *testing.T) {
	for name, pieces := range map[string][]string{
		"none":                        {""},
		"one byte":                    {"x"},
		"eleven bytes":                {"hello world"},
		"after the request":           {"", "hello world"},
		"byte by byte":                append([]string{""}, strings.Split("hello world", "")...),
		"as much as net/http buffers": {strings.Repeat("x", 3500)},
		"10,000 bytes":                {strings.Repeat("0123456789", 1000)},
		"110,000 bytes":               {strings.Repeat("0123456789", 10000), strings.Repeat("x", 10000)},
	} {
		t.Run(name, func(t *testing.T) {
			requested, respond := make(chan struct{}), make(chan struct{})
			arrived := make(chan []byte, 1)
			url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
				if _, err := http.ReadRequest(r); err != nil {
					return
				}
				close(requested)
				<-respond
				_, _ = io.WriteString(c, switchedResponse)
				all, _ := io.ReadAll(r) // until the client closes its connection for writing
				arrived <- all
			})
			_, address, recorded := start(t, routeConfig(url))
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			if _, err := io.WriteString(c, upgradeRequest+"\r\n"+pieces[0]); err != nil {
				t.Fatal(err)
			}
			<-requested
			for _, piece := range pieces[1:] {
				_, _ = io.WriteString(c, piece)
			}
			close(respond)
			sent := strings.Join(pieces, "")
			head := make([]byte, len("HTTP/1.1 101"))
			_, err = io.ReadFull(c, head)
			_ = c.(*net.TCPConn).CloseWrite()
			got := string(<-arrived)
			if err != nil || string(head) != "HTTP/1.1 101" || got != sent {
				t.Errorf("%q, %v; %d of %d bytes arrived, %.50q", head, err, len(got), len(sent), got)
			}
			recorded.next(t)
		})
	}
}

// If one side reads nothing for idle_timeout, the tunnel ends, even if that side still sends.
func TestTunnelEndsIfAPeerStopsReading(t *testing.T) {
	authority := certtest.NewAuthority(t)
	pair, err := tls.X509KeyPair(authority.Sign(t, "127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	secured := &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}}
	ca := "tls: {ca_file: " + certtest.Write(t, t.TempDir(), "ca.pem", authority.PEM) + "}"
	writeFast := func(c net.Conn) error { // and reads nothing
		page := bytes.Repeat([]byte("x"), 64<<10)
		for {
			if _, err := c.Write(page); err != nil {
				return err
			}
		}
	}
	writeSlowly := func(c net.Conn) error { // and reads nothing
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := c.Write([]byte("x")); err != nil {
				return err
			}
		}
		return nil
	}
	idle := func(c net.Conn) error { return nil }
	for name, side := range map[string]struct{ client, upstream func(net.Conn) error }{
		"the client":                  {idle, writeFast},
		"the client, which writes":    {writeSlowly, writeFast},
		"the upstream":                {writeFast, idle},
		"the upstream, which writes":  {writeFast, writeSlowly},
		"both, while they write fast": {writeFast, writeFast},
	} {
		for _, scheme := range []string{"http", "https"} {
			t.Run(name+" over "+scheme, func(t *testing.T) {
				ended := make(chan struct{})
				url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
					raw := c
					limitReadBuffer(t, raw)
					if scheme == "https" {
						over := tls.Server(rereadConn{c, r}, secured)
						c, r = over, bufio.NewReader(over)
					}
					if _, err := http.ReadRequest(r); err != nil {
						return
					}
					_, _ = io.WriteString(c, switchedResponse)
					_ = side.upstream(c)
					<-ended
				})
				server, address, recorded := start(t, routeConfig(strings.Replace(url, "http", scheme, 1), "idle_timeout: 0.3", ca))
				c, err := net.Dial("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				limitReadBuffer(t, c)
				_, _ = io.WriteString(c, upgradeRequest+"\r\n")
				r := bufio.NewReaderSize(c, 16)
				if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 101 ") {
					t.Fatalf("%q, %v", line, err)
				}
				done := make(chan struct{})
				go func() { defer close(done); _ = side.client(c) }()
				recorded.next(t)
				if err := server.DrainTunnels(t.Context()); err != nil {
					t.Error(err)
				}
				close(ended)
				_ = c.Close()
				<-done
			})
		}
	}
}

func TestIdleTunnelIsClosedWithoutRecordingFailure(t *testing.T) {
	url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(c, r)
	})
	_, address, recorded := start(t, routeConfig(url, "idle_timeout: 1.5", "timeout: 0.2", "breaker: {fail_max: 1}"))
	c, r := openWebSocket(t, address)
	for range 4 { // longer than the timeout
		fmt.Fprint(c, "x")
		if b, err := r.ReadByte(); err != nil || b != 'x' {
			t.Fatalf("%q, %v", b, err)
		}
		time.Sleep(100 * time.Millisecond) // each pause is shorter than idle_timeout
	}
	if _, err := r.ReadByte(); err == nil {
		t.Error("the idle tunnel is still open")
	}
	if o := recorded.next(t); o.Result != events.ResultSuccess || o.Failure != nil {
		t.Errorf("%+v", o)
	}
}
