package soak

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// upload sends long bodies, some of which are invalid or truncated.
func (c *client) upload() {
	defer c.pause(60 * time.Millisecond)
	service := []string{"media", "notifier_service"}[c.IntN(2)]
	q := c.question(service, http.MethodPost)
	q.lines, q.cuttable = 1, false
	q.target = "/upload"
	switch c.IntN(5) {
	case 0:
		c.uploadFaulty(q, "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\nbroken\r\n0\r\n\r\n", false)
	case 1:
		c.uploadFaulty(q, "Content-Length: 1000\r\n\r\nonly this", true)
	case 2:
		c.uploadFaulty(q, "Content-Length: 99999999\r\n\r\nfar too much", false)
	case 3:
		c.abandon(q)
	default:
		body := bytes.Repeat([]byte(fmt.Sprintf("%s %d ", c.name, c.Int64())), 1+c.IntN(20_000))
		q.sum = crc32.ChecksumIEEE(body)
		c.ask(c.http1, q, chunked(body), time.Minute)
	}
}

// chunked hides the length of a body, so that it is sent chunked.
func chunked(body []byte) io.Reader { return io.MultiReader(bytes.NewReader(body)) }

func (c *client) uploadFaulty(q *question, rest string, half bool) {
	q.faulty = true
	c.s.ledger.ask(q)
	downs := c.p.downs.Load()
	head := fmt.Sprintf("POST %s%s HTTP/1.1\r\nHost: x\r\n%s: %d\r\nAuthorization: %s\r\n", q.route.prefix, q.target, soakID, q.id, q.tenant)
	res, body, err := c.raw(q, head+rest, half)
	q.disturbed = !c.p.upSince(downs)
	switch {
	case q.disturbed:
		c.s.tally.uncertain(q)
	case err != nil:
		c.s.complain("no answer", "%v, faulty: %v", q, err)
	default:
		c.judge(q, res, body, 0)
	}
}

// abandon disconnects during an upload.
func (c *client) abandon(q *question) {
	q.faulty, q.left = true, true
	body, end := io.Pipe()
	some, lasts := strings.Repeat("x", c.IntN(100_000)), c.N(30*time.Millisecond)
	go func() {
		_, _ = io.WriteString(end, some)
		time.Sleep(lasts)
		_ = end.CloseWithError(io.ErrUnexpectedEOF)
	}()
	defer body.Close()
	c.ask(c.http1, q, body, time.Minute)
}

// invalidRequest is a request that may reach no upstream, and what it must be answered with.
type invalidRequest struct {
	request string
	status  int
}

var rudenesses = []invalidRequest{
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
	rude := rudenesses[c.IntN(len(rudenesses))]
	q := &question{route: soakRoutes["media"], instance: c.p.n}
	downs := c.p.downs.Load()
	res, body, err := c.raw(q, rude.request, false)
	switch {
	case !c.p.upSince(downs):
	case err != nil:
		c.s.complain("no answer", "%.60q: %v", rude.request, err)
	case res.StatusCode != rude.status || res.Header.Get("Content-Type") != "application/problem+json" ||
		problemOf(res, body) != nil || slices.Contains(stateSet, res.Header.Get("X-Circuit-Breaker-State")):
		c.s.complain("out of order", "%.60q: status %d, %v, %q", rude.request, res.StatusCode, res.Header, body)
	default:
		c.s.tally.count(&question{route: &soakRoute{service: "none"}, instance: c.p.n}, "", fmt.Sprintf("refused with %d", res.StatusCode), 0)
	}
	c.pause(200 * time.Millisecond)
}
