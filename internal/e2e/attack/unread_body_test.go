package attack

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// What a client sends as a body is never taken for a request of its own, however early the
// answer came: otherwise whoever shares the connection to the proxy (another proxy in
// front) is given an answer to what the body's author wrote.
func TestUnreadBodyIsNotParsedAsRequest(t *testing.T) {
	t.Parallel()
	const smuggled = "GET /svc/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, c := range map[string]struct {
		answer, head string
	}{
		"refused, large, expecting 100": {"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno", "Content-Length: 1000000\r\nExpect: 100-continue\r\n"},
		"refused, small, expecting 100": {"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno", "Content-Length: 1000\r\nExpect: 100-continue\r\n"},
		"early, of known length":        {"HTTP/1.1 413 Big\r\nContent-Length: 3\r\n\r\nbig", "Content-Length: 1000000\r\n"},
		"early, chunked":                {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "Content-Length: 1000000\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := harness.StartRawUpstream(t, harness.RespondWith(c.answer, false))
			p := harness.StartProxy(t, harness.Options{Config: "routes: {svc: {prefix: /svc, upstream: '" + u.URL() + "', timeout: 2}}\n"})
			client, r := p.Dial()
			defer client.Close()
			_, _ = io.WriteString(client, "POST /svc/first HTTP/1.1\r\nHost: x\r\n"+c.head+"\r\n")
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			first := harness.ReadResponse(t, res, nil)
			_, _ = io.WriteString(client, smuggled) // part of the body, as the proxy ought to know
			_ = client.SetReadDeadline(time.Now().Add(3 * time.Second))
			rest, _ := io.ReadAll(r)
			if lines := u.RequestLines(); len(lines) != 1 || len(rest) > 0 {
				t.Errorf("after %d the upstream saw %q, and the client got %q", first.Status, lines, rest)
			}
		})
	}
}

// The same with an upload that goes on for longer than the proxy cares to read it.
func TestUploadAfterEarlyResponseIsNotParsedAsRequest(t *testing.T) {
	t.Parallel()
	u := harness.StartRawUpstream(t, harness.RespondWith("HTTP/1.1 413 Big\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig", false))
	p := harness.StartProxy(t, harness.Options{Config: "limits: {body_bytes: 1GiB}\nroutes: {svc: {prefix: /svc, upstream: '" + u.URL() + "', timeout: 30}}\n"})
	client, r := p.Dial()
	defer client.Close()
	_, _ = io.WriteString(client, "POST /svc/first HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
	lines := strings.Repeat("GET /svc/smuggled HTTP/1.1\r\nHost: x\r\n\r\n", 100)
	go func() {
		for {
			if _, err := io.WriteString(client, lines); err != nil {
				return // the proxy had enough
			}
			time.Sleep(5 * time.Millisecond) // 800 KB/s: as long as it is allowed, within bounds
		}
	}()
	answers, _ := io.ReadAll(r)
	if n := strings.Count(string(answers), "HTTP/1.1 "); n != 1 || len(u.RequestLines()) != 1 {
		t.Errorf("%d answers to one request, the upstream saw %q:\n%.1000s", n, u.RequestLines(), answers)
	}
}
