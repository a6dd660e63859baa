package attack

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// TestSizeLimitsApplyToHTTP1AndHTTP2 checks that requests over the size limits get 431 or 413 and count as no failure.
func TestSizeLimitsApplyToHTTP1AndHTTP2(t *testing.T) {
	t.Parallel()
	u := startRecordingUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: "limits: {header_bytes: 8KiB, body_bytes: 1KiB}\n" + strictBreakerConfig(u.URL(), ", timeout: 5")})
	for _, size := range []int{10 << 10, 200 << 10, 2 << 20} {
		c, r := p.Dial()
		go func() {
			_, _ = io.WriteString(c, "GET /svc HTTP/1.1\r\nHost: x\r\nA: "+strings.Repeat("b", size)+"\r\n\r\n")
		}()
		res, err := http.ReadResponse(bufio.NewReader(r), nil)
		if response := harness.ReadResponse(t, res, err); response.Status != 431 || !isProblem(response) {
			t.Errorf("a header section of %d bytes: %+v", size, response)
		}
		_ = c.Close()
	}
	for n := range uint32(20) { // the connection stays open after each response
		c := dialHTTP2(p)
		c.sendHeaders(1, c.encodeRequest("GET", "/svc", "a", strings.Repeat("b", 10<<10)), true)
		if result := c.awaitResult(1); result.Status != 431 || !isProblem(result.Response) {
			t.Errorf("HTTP/2, a header section of 10 KiB: %v %+v", result, result.Response)
		}
		c.sendHeaders(3, c.encodeRequest("POST", "/svc", "content-length", "1025"), false)
		if result := c.awaitResult(3); result.Status != 413 || !isProblem(result.Response) {
			t.Errorf("HTTP/2, a Content-Length of 1025: %v %+v", result, result.Response)
		}
		c.sendHeaders(5, c.encodeRequest("POST", "/svc"), false)
		_ = c.WriteData(5, false, make([]byte, 1000))
		_ = c.WriteData(5, false, make([]byte, 25+n))
		_ = c.out.Flush()
		if result := c.awaitResult(5); result.Status != 413 || !isProblem(result.Response) {
			t.Errorf("HTTP/2, a body of %d: %v %+v", 1025+n, result, result.Response)
		}
		_ = c.conn.Close()
	}
	for _, seen := range u.takeRequests() {
		if seen.line != "POST /" || len(seen.body) > 1<<10 {
			t.Errorf("the upstream saw %+v", seen)
		}
	}
	checkHealthy(p)
}
