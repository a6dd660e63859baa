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

// netHTTPConnections returns the number of open http.Transport connections in the process.
func netHTTPConnections() int {
	stacks := make([]byte, 16<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "net/http.(*persistConn).readLoop(")
}

// Plain requests use the fast path, which needs no further goroutines, unless it is switched off. All other requests use
// http.Transport.
func TestPlainRequestsUseTheFastPath(t *testing.T) {
	if httpMode != "auto" {
		t.Skip("the test sets the transport itself")
	}
	const clients = 20
	before := netHTTPConnections()
	for name, c := range map[string]struct {
		transport, request string
		fastPath           bool
	}{
		"GET":                    {"auto", "GET /svc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", true},
		"body":                   {"auto", "POST /svc HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", true},
		"GET, net_http only":     {"net_http", "GET /svc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false},
		"body of unknown length": {"auto", "POST /svc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n", false},
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
			server, address, _ := start(t, routeConfig(url, "transport: "+c.transport))
			for netHTTPConnections() > before { // until those of the previous server are closed
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
			if n := netHTTPConnections() - before; n > 2 && c.fastPath || n < clients/2 && !c.fastPath {
				t.Errorf("%d of %d connections belong to http.Transport", n, clients)
			}
			if state := server.Breaker("svc").State(); state != events.Closed {
				t.Errorf("the breaker is %v", state)
			}
		})
	}
}

// A request that arrives in several pieces is forwarded with its whole body.
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
	for name, pieces := range map[string][]string{
		"one piece":                  {"Content-Length: 6\r\n\r\nabcdef"},
		"head, then body":            {"Content-Length: 6\r\n\r\n", "abcdef"},
		"split body":                 {"Content-Length: 6\r\n\r\nabc", "def"},
		"split head":                 {"Content-Le", "ngth: 6\r\n\r\nabcdef"},
		"split before the body":      {"Content-Length: 6\r\n\r", "\nab\r\n\r", "\n"},
		"body ends with empty line":  {"Content-Length: 6\r\n\r\nab\r\n\r\n"},
		"piece ends with empty line": {"Content-Length: 8\r\n\r\n\r\n\r\n", "abcd"},
		"longer than net/http reads": {"Content-Length: 9000\r\n\r\n" + strings.Repeat("x", 9000)},
	} {
		t.Run(name, func(t *testing.T) {
			conn, r := dial(t, address)
			for range 2 { // the second request reuses the connection
				_, _ = io.WriteString(conn, "POST /svc HTTP/1.1\r\nHost: x\r\n")
				for _, piece := range pieces {
					_, _ = io.WriteString(conn, piece)
					runtime.Gosched()
				}
				res := nextResponse(t, r)
				_, _ = io.Copy(io.Discard, res.Body)
				_, want, _ := strings.Cut(strings.Join(pieces, ""), "\r\n\r\n")
				if text := <-got; text != want || res.StatusCode != 200 {
					t.Errorf("status %d, %.50q, want %.50q", res.StatusCode, text, want)
				}
			}
		})
	}
}
