package attack

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"cbproxy/internal/e2e/harness"
)

// evil is what somebody says who wants to be taken for somebody else by whoever reads the
// log, or to fill the disk.
var evil = []string{
	"a\nlevel=ERROR msg=forged", "a\r\n{\"level\":\"ERROR\",\"msg\":\"forged\"}", "\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "a\x00b", "\x7f\x08\x08", "\u009b31m", "\x9b31m\xff",
	"\u202eforged\u2066", "\u2028forged", "\" level=ERROR msg=\"forged", "%!s(MISSING)%n", strings.Repeat("A", 100_000), strings.Repeat("\x1b", 50_000),
}

// sayEvil returns what an upstream says for the n-th time.
func sayEvil(n int) string {
	e := evil[n%len(evil)]
	switch n / len(evil) {
	case 0:
		return e + "\r\n\r\n"
	case 1:
		return "HTTP/1.1 " + e + "\r\n\r\n"
	case 2:
		return "HTTP/1.1 200 " + e + "\r\nContent-Length: " + e + "\r\n\r\n"
	case 3:
		return "HTTP/1.1 200 OK\r\n" + e + ": x\r\n\r\n"
	case 4:
		return "HTTP/1.1 200 OK\r\nX: " + e + "\r\nTransfer-Encoding: " + e + "\r\n\r\n"
	case 5:
		return "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: " + e + "\r\n\r\n"
	case 6:
		return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + e + "\r\n"
	case 7:
		return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: " + e + "\r\n\r\n0\r\n" + e + "\r\n\r\n"
	}
	return "HTTP/1.1 500 " + e + "\r\nContent-Length: 0\r\n\r\n" + e // more than was announced
}

// Whatever clients and upstreams say, a line of the log is a line, of bounded length, and
// says what the proxy says.
func TestLogLinesCannotBeForged(t *testing.T) {
	t.Parallel()
	for format, wellFormed := range map[string]func(line string) bool{
		"json": func(line string) bool { return json.Valid([]byte(line)) },
		"text": isTextLine,
	} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			var said atomic.Int64
			u := harness.StartRawUpstream(t, func(c net.Conn, _ *http.Request, _ *bufio.Reader) bool {
				_, _ = io.WriteString(c, sayEvil(int(said.Add(1)-1)))
				return false
			})
			p := harness.StartProxy(t, harness.Options{Config: "access_log: {enabled: true, destination: stderr, query: true, format: " + format + "}\n" +
				"routes: {svc: {prefix: /svc, upstream: '" + u.URL() + "', timeout: 5, breaker: {fail_max: 1, recovery_timeout: 0.001}}}\n",
				Flags: []string{"--log-format", format, "--log-level", "debug"}})
			for range len(evil) * 9 {
				before := said.Load()
				harness.Eventually(t, "the upstream is asked", func() bool {
					c, r := p.Dial()
					defer c.Close()
					_, _ = io.WriteString(c, "GET /svc HTTP/1.1\r\nHost: x\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n\r\n")
					_, _ = io.Copy(io.Discard, r)
					return said.Load() > before
				})
				time.Sleep(time.Millisecond) // so that the breaker may be asked again
			}
			for _, e := range evil {
				for _, raw := range []string{
					e + " /svc HTTP/1.1\r\nHost: x\r\n\r\n", "GET /svc/" + e + " HTTP/1.1\r\nHost: x\r\n\r\n", "GET /svc?" + e + " HTTP/1.1\r\nHost: x\r\n\r\n",
					"GET /svc " + e + "\r\nHost: x\r\n\r\n", "GET /svc HTTP/1.1\r\nHost: " + e + "\r\n\r\n", "GET /svc HTTP/1.1\r\nHost: x\r\n" + e + ": x\r\n\r\n",
					"GET /svc HTTP/1.1\r\nHost: x\r\nX: " + e + "\r\n\r\n", "POST /svc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + e + "\r\n",
					"GET /svc HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: " + e + "\r\n\r\n",
				} {
					c, r := p.Dial()
					_, _ = io.WriteString(c, raw)
					_ = c.(*net.TCPConn).CloseWrite()
					_, _ = io.Copy(io.Discard, r)
					_ = c.Close()
				}
				c := dialHTTP2(p)
				c.begin(1, c.request(e, "/svc/"+e, e, e), true)
				_, _ = c.out.WriteString(e)
				_ = c.out.Flush()
				c.await(1)
				_ = c.conn.Close()
			}
			p.Signal(syscall.SIGTERM)
			if status := p.Wait(); status != 0 {
				t.Errorf("exit status %d", status)
			}
			log := p.Log.String()
			for line := range strings.Lines(log) {
				line = strings.TrimSuffix(line, "\n")
				if !wellFormed(line) || strings.Contains(line, "level=ERROR msg=forged ") || strings.HasPrefix(line, "level=ERROR") {
					t.Errorf("malformed: %.300q", line)
				}
				if i := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }); i >= 0 {
					t.Errorf("%q in %.300q", line[i:][:1], line)
				}
				if len(line) > 8<<10 {
					t.Errorf("%d bytes: %.300q", len(line), line)
				}
			}
			if n := strings.Count(log, "duration_ms"); n < 9*len(evil) {
				t.Errorf("%d access lines", n)
			}
			if n := strings.Count(log, "upstream failed"); n == 0 {
				t.Error("nothing was logged of the upstream")
			}
		})
	}
}

// isTextLine reports whether a line is a sequence of keys and values, plain or quoted.
func isTextLine(line string) bool {
	for line != "" {
		key, rest, ok := strings.Cut(line, "=")
		if !ok || key == "" || strings.ContainsAny(key, " \"") {
			return false
		}
		if strings.HasPrefix(rest, `"`) {
			quoted, err := strconv.QuotedPrefix(rest)
			if err != nil {
				return false
			}
			rest = rest[len(quoted):]
		} else if i := strings.IndexByte(rest, ' '); i >= 0 {
			rest = rest[i:]
		} else {
			rest = ""
		}
		if rest != "" && !strings.HasPrefix(rest, " ") {
			return false
		}
		line = strings.TrimPrefix(rest, " ")
	}
	return true
}
