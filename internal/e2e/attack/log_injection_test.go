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

// maliciousTexts are texts that try to forge log lines, control the terminal of the log's reader, or fill the disk.
var maliciousTexts = []string{
	"a\nlevel=ERROR msg=forged", "a\r\n{\"level\":\"ERROR\",\"msg\":\"forged\"}", "\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "a\x00b", "\x7f\x08\x08", "\u009b31m", "\x9b31m\xff",
	"\u202eforged\u2066", "\u2028forged", "\" level=ERROR msg=\"forged", "%!s(MISSING)%n", strings.Repeat("A", 100_000), strings.Repeat("\x1b", 50_000),
}

// maliciousResponse returns the n-th response of the upstream, which has one of maliciousTexts in one of nine places.
func maliciousResponse(n int) string {
	e := maliciousTexts[n%len(maliciousTexts)]
	switch n / len(maliciousTexts) {
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
	return "HTTP/1.1 500 " + e + "\r\nContent-Length: 0\r\n\r\n" + e // after the end of the body
}

// TestLogLinesCannotBeForged checks that each line of the log is well-formed, printable and of bounded length, whatever
// clients and upstreams send.
func TestLogLinesCannotBeForged(t *testing.T) {
	t.Parallel()
	for format, wellFormed := range map[string]func(line string) bool{
		"json": func(line string) bool { return json.Valid([]byte(line)) },
		"text": isTextLine,
	} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			var responses atomic.Int64
			u := harness.StartRawUpstream(t, func(c net.Conn, _ *http.Request, _ *bufio.Reader) bool {
				_, _ = io.WriteString(c, maliciousResponse(int(responses.Add(1)-1)))
				return false
			})
			p := harness.StartProxy(t, harness.Options{Config: "access_log: {enabled: true, destination: stderr, query: true, format: " + format + "}\n" +
				"routes: {svc: {prefix: /svc, upstream: '" + u.URL() + "', timeout: 5, breaker: {fail_max: 1, recovery_timeout: 0.001}}}\n",
				Flags: []string{"--log-format", format, "--log-level", "debug"}})
			for range len(maliciousTexts) * 9 {
				before := responses.Load()
				harness.Eventually(t, "the upstream receives a request", func() bool {
					c, r := p.Dial()
					defer c.Close()
					_, _ = io.WriteString(c, "GET /svc HTTP/1.1\r\nHost: x\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n\r\n")
					_, _ = io.Copy(io.Discard, r)
					return responses.Load() > before
				})
				time.Sleep(time.Millisecond) // the recovery timeout, so that the breaker permits the next request
			}
			for _, e := range maliciousTexts {
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
				c.sendHeaders(1, c.encodeRequest(e, "/svc/"+e, e, e), true)
				_, _ = c.out.WriteString(e)
				_ = c.out.Flush()
				c.awaitResult(1)
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
					t.Errorf("malformed line: %.300q", line)
				}
				if i := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }); i >= 0 {
					t.Errorf("unprintable %q in %.300q", line[i:][:1], line)
				}
				if len(line) > 8<<10 {
					t.Errorf("line of %d bytes: %.300q", len(line), line)
				}
			}
			if n := strings.Count(log, "duration_ms"); n < 9*len(maliciousTexts) {
				t.Errorf("%d lines of the access log, want at least %d", n, 9*len(maliciousTexts))
			}
			if n := strings.Count(log, "upstream failed"); n == 0 {
				t.Error("no upstream failure was logged")
			}
		})
	}
}

// isTextLine reports whether a line is a sequence of key=value pairs, whose values may be quoted.
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
