package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"cbproxy/internal/events"
)

// netHTTPConnections returns how many connections of http.Transports there are in the process.
func netHTTPConnections() int {
	stacks := make([]byte, 16<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "net/http.(*persistConn).readLoop(")
}

// Plain requests keep nobody busy but the goroutine that has them, where that is not switched off, and all others
// are left to http.Transport.
func TestPlainRequestsUseTheFastPath(t *testing.T) {
	if httpMode != "auto" {
		t.Skip("it says which way itself")
	}
	const clients = 20
	quiet := netHTTPConnections()
	for name, c := range map[string]struct {
		key, request string
		direct       bool
	}{
		"a GET":                    {"auto", "GET /svc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", true},
		"a body":                   {"auto", "POST /svc HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", true},
		"a GET, switched off":      {"net_http", "GET /svc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false},
		"a body of unknown length": {"auto", "POST /svc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			var arrived, answered sync.WaitGroup
			arrived.Add(clients)
			url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
				q, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, q.Body)
				arrived.Done()
				arrived.Wait()
				_, _ = io.WriteString(c, okResponse)
				_, _ = r.ReadByte() // until the connection is closed
			})
			server, address, _ := start(t, routeConfig(url, "transport: "+c.key))
			for netHTTPConnections() > quiet { // those of the last server are being closed
				runtime.Gosched()
			}
			for range clients {
				answered.Go(func() {
					if line := rawStatusLine(t, address, c.request); !strings.Contains(line, " 200 ") {
						t.Error(line)
					}
				})
			}
			answered.Wait()
			if n := netHTTPConnections() - quiet; n > 2 && c.direct || n < clients/2 && !c.direct {
				t.Errorf("%d of %d connections are http.Transport's", n, clients)
			}
			if state := server.Breaker("svc").State(); state != events.Closed {
				t.Errorf("the breaker is %v", state)
			}
		})
	}
}

// A body that comes in parts is no less the whole body.
func TestRequestSentInPiecesIsForwardedWhole(t *testing.T) {
	got := make(chan string, 1)
	url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			q, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			text, err := io.ReadAll(q.Body)
			if err != nil {
				return
			}
			got <- string(text)
			_, _ = io.WriteString(c, okResponse)
		}
	})
	_, address, _ := start(t, routeConfig(url))
	for name, parts := range map[string][]string{
		"whole":                      {"Content-Length: 6\r\n\r\nabcdef"},
		"head, then body":            {"Content-Length: 6\r\n\r\n", "abcdef"},
		"half a body":                {"Content-Length: 6\r\n\r\nabc", "def"},
		"half a head":                {"Content-Le", "ngth: 6\r\n\r\nabcdef"},
		"an empty line in its head":  {"Content-Length: 6\r\n\r", "\nab\r\n\r", "\n"},
		"ends as a head does":        {"Content-Length: 6\r\n\r\nab\r\n\r\n"},
		"half of it, ending so":      {"Content-Length: 8\r\n\r\n\r\n\r\n", "abcd"},
		"longer than net/http reads": {"Content-Length: 9000\r\n\r\n" + strings.Repeat("x", 9000)},
	} {
		t.Run(name, func(t *testing.T) {
			conn, r := dial(t, address)
			for range 2 { // on a connection that has been used as well
				_, _ = io.WriteString(conn, "POST /svc HTTP/1.1\r\nHost: x\r\n")
				for _, part := range parts {
					_, _ = io.WriteString(conn, part)
					runtime.Gosched()
				}
				res := nextResponse(t, r)
				_, _ = io.Copy(io.Discard, res.Body)
				_, want, _ := strings.Cut(strings.Join(parts, ""), "\r\n\r\n")
				if text := <-got; text != want || res.StatusCode != 200 {
					t.Errorf("status %d, %.50q, want %.50q", res.StatusCode, text, want)
				}
			}
		})
	}
}
