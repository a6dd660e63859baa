package e2e

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

// response is a response whose body has been read.
type response struct {
	status int
	header http.Header
	body   string
}

func read(t testing.TB, res *http.Response, err error) response {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response{res.StatusCode, res.Header, string(body)}
}

func (p *proxyProcess) get(path string) response {
	p.t.Helper()
	res, err := http.Get(p.data + path)
	return read(p.t, res, err)
}

// state returns the breaker state that the response reports.
func (r response) state() string { return r.header.Get("X-Circuit-Breaker-State") }

// send sends a request with a body. fields are header names and values in turn.
func (p *proxyProcess) send(method, path, body string, fields ...string) response {
	p.t.Helper()
	r, err := http.NewRequest(method, p.data+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	for pair := range slices.Chunk(fields, 2) {
		r.Header.Add(pair[0], pair[1])
	}
	res, err := http.DefaultClient.Do(r)
	return read(p.t, res, err)
}

func (p *proxyProcess) post(body string, fields ...string) response {
	p.t.Helper()
	return p.send(http.MethodPost, "/svc/"+body, body, fields...)
}

// ask sends raw bytes on a new connection and returns the response.
func (p *proxyProcess) ask(raw string) response {
	p.t.Helper()
	c, r := p.dial()
	defer c.Close()
	_, _ = io.WriteString(c, raw)
	res, err := http.ReadResponse(r, nil)
	return read(p.t, res, err)
}

// dial opens a connection to the data plane, for tests that write raw HTTP.
func (p *proxyProcess) dial() (net.Conn, *bufio.Reader) {
	p.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(p.data, "http://"))
	if err != nil {
		p.t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	return c, bufio.NewReader(c)
}

// readHead reads a response's status line and header section.
func readHead(t testing.TB, r *bufio.Reader) string {
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
