package attack

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// TestUnreadBodyIsNotParsedAsRequest checks that the proxy does not parse the rest of a body as a request after an early
// response. Otherwise, if a proxy in front of it reuses the connection for several clients, one of them would get the
// response to a request that another has hidden in a body.
func TestUnreadBodyIsNotParsedAsRequest(t *testing.T) {
	t.Parallel()
	const smuggled = "GET /svc/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, c := range map[string]struct {
		response, header string
	}{
		"401, large body, Expect": {"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno", "Content-Length: 1000000\r\nExpect: 100-continue\r\n"},
		"401, small body, Expect": {"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno", "Content-Length: 1000\r\nExpect: 100-continue\r\n"},
		"413, Content-Length":     {"HTTP/1.1 413 Big\r\nContent-Length: 3\r\n\r\nbig", "Content-Length: 1000000\r\n"},
		"200, chunked":            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "Content-Length: 1000000\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := harness.StartRawUpstream(t, harness.RespondWith(c.response, false))
			p := harness.StartProxy(t, harness.Options{Config: "routes: {svc: {prefix: /svc, upstream: '" + u.URL() + "', timeout: 2}}\n"})
			client, r := p.Dial()
			defer client.Close()
			_, _ = io.WriteString(client, "POST /svc/first HTTP/1.1\r\nHost: x\r\n"+c.header+"\r\n")
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			first := harness.ReadResponse(t, res, nil)
			_, _ = io.WriteString(client, smuggled) // part of the body
			_ = client.SetReadDeadline(time.Now().Add(3 * time.Second))
			rest, _ := io.ReadAll(r)
			if lines := u.RequestLines(); len(lines) != 1 || len(rest) > 0 {
				t.Errorf("after a response with status %d: the upstream saw %q, the client got %q", first.Status, lines, rest)
			}
		})
	}
}

// TestUploadAfterEarlyResponseIsNotParsedAsRequest checks the same for an upload that continues for longer than the
// proxy reads it.
func TestUploadAfterEarlyResponseIsNotParsedAsRequest(t *testing.T) {
	t.Parallel()
	u := harness.StartRawUpstream(t, harness.RespondWith("HTTP/1.1 413 Big\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig", false))
	p := harness.StartProxy(t, harness.Options{Config: "limits: {body_bytes: 1GiB}\nroutes: {svc: {prefix: /svc, upstream: '" + u.URL() + "', timeout: 30}}\n"})
	client, r := p.Dial()
	defer client.Close()
	_, _ = io.WriteString(client, "POST /svc/first HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
	requests := strings.Repeat("GET /svc/smuggled HTTP/1.1\r\nHost: x\r\n\r\n", 100)
	go func() {
		for {
			if _, err := io.WriteString(client, requests); err != nil {
				return // the proxy has closed the connection
			}
			time.Sleep(5 * time.Millisecond) // 800 KB/s, so that a time limit ends the upload and not the size limit
		}
	}()
	responses, _ := io.ReadAll(r)
	if n := strings.Count(string(responses), "HTTP/1.1 "); n != 1 || len(u.RequestLines()) != 1 {
		t.Errorf("%d responses to one request, the upstream saw %q:\n%.1000s", n, u.RequestLines(), responses)
	}
}
