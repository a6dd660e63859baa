package harness

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// Response is a response whose body has been read.
type Response struct {
	Status int
	Header http.Header
	Body   string
}

// ReadResponse reads and closes the body of a response. It takes the results of a client call: it fails the test if err
// is not nil or the body is incomplete.
func ReadResponse(t testing.TB, res *http.Response, err error) Response {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return Response{res.StatusCode, res.Header, string(body)}
}

// Get sends a GET request to the data plane.
func (p *Proxy) Get(path string) Response {
	p.T.Helper()
	res, err := http.Get(p.URL + path)
	return ReadResponse(p.T, res, err)
}

// BreakerState returns the breaker state that the response reports.
func (r Response) BreakerState() string { return r.Header.Get("X-Circuit-Breaker-State") }

// Send sends a request with a body to the data plane. fields are alternating header names and values.
func (p *Proxy) Send(method, path, body string, fields ...string) Response {
	p.T.Helper()
	r, err := http.NewRequest(method, p.URL+path, strings.NewReader(body))
	if err != nil {
		p.T.Fatal(err)
	}
	for pair := range slices.Chunk(fields, 2) {
		r.Header.Add(pair[0], pair[1])
	}
	res, err := http.DefaultClient.Do(r)
	return ReadResponse(p.T, res, err)
}

// Post sends a POST request to /svc/body, so that the path identifies the request as well. fields are alternating header
// names and values.
func (p *Proxy) Post(body string, fields ...string) Response {
	p.T.Helper()
	return p.Send(http.MethodPost, "/svc/"+body, body, fields...)
}

// SendRaw sends raw bytes on a new connection and returns the response.
func (p *Proxy) SendRaw(raw string) Response {
	p.T.Helper()
	c, r := p.Dial()
	defer c.Close()
	_, _ = io.WriteString(c, raw)
	res, err := http.ReadResponse(r, nil)
	return ReadResponse(p.T, res, err)
}

// Dial opens a connection to the data plane, with a deadline, for tests that write raw HTTP. The caller closes it.
func (p *Proxy) Dial() (net.Conn, *bufio.Reader) {
	p.T.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(p.URL, "http://"))
	if err != nil {
		p.T.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(EventTimeout))
	return c, bufio.NewReader(c)
}

// ReadHead reads a response's status line and header section, including the empty line.
func ReadHead(t testing.TB, r *bufio.Reader) string {
	t.Helper()
	var head strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("after %q: %v", head.String(), err)
		}
		head.WriteString(line)
		if line == "\r\n" {
			return head.String()
		}
	}
}
