package soak

import (
	"bufio"
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// upload sends long bodies, some of which are invalid or truncated.
func (c *client) upload() {
	defer c.pause(60 * time.Millisecond)
	service := []string{"media", "notifier_service"}[c.IntN(2)]
	req := c.newRequest(service, http.MethodPost)
	req.responseLines, req.mayTruncate = 1, false
	req.target = "/upload"
	switch c.IntN(5) {
	case 0:
		c.uploadInvalid(req, "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\nbroken\r\n0\r\n\r\n", false)
	case 1:
		c.uploadInvalid(req, "Content-Length: 1000\r\n\r\nonly this", true)
	case 2:
		c.uploadInvalid(req, "Content-Length: 99999999\r\n\r\nfar too much", false)
	case 3:
		c.abortUpload(req)
	default:
		body := bytes.Repeat([]byte(fmt.Sprintf("%s %d ", c.name, c.Int64())), 1+c.IntN(20_000))
		req.bodySum = crc32.ChecksumIEEE(body)
		c.send(c.http1, req, chunked(body), time.Minute)
	}
}

// chunked returns a reader that hides the length of a body, so that it is sent chunked.
func chunked(body []byte) io.Reader { return io.MultiReader(bytes.NewReader(body)) }

// uploadInvalid sends an invalid request. rest is the last header field and the body.
func (c *client) uploadInvalid(req *request, rest string, closeWrite bool) {
	req.invalid = true
	c.s.requests.add(req)
	transitions := c.p.transitions.Load()
	head := fmt.Sprintf("POST %s%s HTTP/1.1\r\nHost: x\r\n%s: %d\r\nAuthorization: %s\r\n", req.route.prefix, req.target, idField, req.id, req.tenant)
	res, body, err := c.sendRaw(req, head+rest, closeWrite)
	req.instanceDown = !c.p.upSince(transitions)
	switch {
	case req.instanceDown:
		c.s.counts.addUnknown(req)
	case err != nil:
		c.s.reportf("no response", "%v, invalid: %v", req, err)
	default:
		c.checkResponse(req, res, body, 0)
	}
}

// sendRaw opens a connection, sends the given bytes and returns the response. It shuts down the sending direction
// afterwards if closeWrite is set.
func (c *client) sendRaw(req *request, raw string, closeWrite bool) (res *http.Response, body string, err error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.p.URL, "http://"))
	if err != nil {
		return nil, "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(timeoutSlack + req.route.timeout))
	if _, err := io.WriteString(conn, raw); err != nil {
		return nil, "", err
	}
	if closeWrite {
		_ = conn.(*net.TCPConn).CloseWrite()
	}
	res, err = http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil, "", err
	}
	text, err := io.ReadAll(res.Body)
	return res, string(text), err
}

// abortUpload disconnects during an upload.
func (c *client) abortUpload(req *request) {
	req.invalid, req.disconnected = true, true
	body, w := io.Pipe()
	part, delay := strings.Repeat("x", c.IntN(100_000)), c.randomDuration(30*time.Millisecond)
	go func() {
		_, _ = io.WriteString(w, part)
		time.Sleep(delay)
		_ = w.CloseWithError(io.ErrUnexpectedEOF)
	}()
	defer body.Close()
	c.send(c.http1, req, body, time.Minute)
}

// invalidRequest is a request that the proxy must not forward, and the status of the response.
type invalidRequest struct {
	raw    string
	status int
}

var invalidRequests = []invalidRequest{
	{"GET /media/../rag HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"GET /media/%2e%2e/rag HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"GET /media/a%00 HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"GET /media/a%5cb HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 404},
	{"CONNECT media:80 HTTP/1.1\r\nHost: media:80\r\n\r\n", 405},
	{"GET /media HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", 431},
	{"nonsense of more bytes than the preface of HTTP/2\r\n\r\n", 400},
}

// sendInvalid sends requests that the proxy must reject itself.
func (c *client) sendInvalid() {
	invalid := invalidRequests[c.IntN(len(invalidRequests))]
	transitions := c.p.transitions.Load()
	res, body, err := c.sendRaw(&request{route: routes["media"], instance: c.p.n}, invalid.raw, false)
	switch {
	case !c.p.upSince(transitions):
	case err != nil:
		c.s.reportf("no response", "%.60q: %v", invalid.raw, err)
	case res.StatusCode != invalid.status || res.Header.Get("Content-Type") != "application/problem+json" ||
		checkProblem(res, body) != nil || slices.Contains(breakerStates, res.Header.Get("X-Circuit-Breaker-State")):
		c.s.reportf("invalid response", "%.60q: status %d, %v, %q", invalid.raw, res.StatusCode, res.Header, body)
	default:
		c.s.counts.add(&request{route: &route{service: "none"}, instance: c.p.n}, outcomeUnknown, fmt.Sprintf("rejected with %d", res.StatusCode), 0)
	}
	c.pause(200 * time.Millisecond)
}
