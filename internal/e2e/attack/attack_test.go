package attack

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"cbproxy/internal/e2e/harness"
)

// seenRequest is a request as it reached an upstream.
type seenRequest struct {
	line    string // method and target
	host    string
	header  http.Header
	length  int64
	body    string
	trailer http.Header
}

// witness is an upstream that answers everything and remembers what it was asked.
type witness struct {
	*harness.RawUpstream
	mu       sync.Mutex
	requests []seenRequest
}

func startWitness(t testing.TB) *witness {
	t.Helper()
	w := new(witness)
	w.RawUpstream = harness.StartRawUpstream(t, func(c net.Conn, q *http.Request, _ *bufio.Reader) bool {
		body, err := io.ReadAll(q.Body)
		seen := seenRequest{q.Method + " " + q.RequestURI, q.Host, q.Header, q.ContentLength, string(body), q.Trailer}
		w.mu.Lock()
		w.requests = append(w.requests, seen)
		w.mu.Unlock()
		if err != nil {
			return false
		}
		if q.URL.Path == "/last" { // of its connection, so that none is kept for later
			return harness.RespondWith("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", false)(c, q, nil)
		}
		return harness.RespondWith("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true)(c, q, nil)
	})
	return w
}

// take returns the requests that have come since the last time.
func (w *witness) take() []seenRequest {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.requests
	w.requests = nil
	return taken
}

func lines(requests []seenRequest) []string {
	var lines []string
	for _, r := range requests {
		lines = append(lines, r.line)
	}
	return lines
}

// oneMistake is a route whose breaker opens at the first failure.
func oneMistake(url, more string) string {
	return "routes: {svc: {prefix: /svc, upstream: '" + url + "', breaker: {fail_max: 1, recovery_timeout: 300}" + more + "}}\n"
}

// unharmed checks that nothing is left of an attack: no request in flight, no mark against
// the upstream, and an answer for those who ask properly.
func checkUnharmed(p *harness.Proxy) {
	p.T.Helper()
	harness.Eventually(p.T, "nothing is in flight", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="svc"}`) == 0 })
	if got := p.RequestCounts("svc"); got["failure"] != 0 || got["rejected"] != 0 {
		p.T.Errorf("requests %v", got)
	}
	if s := p.Health().Services["svc"]; s.State != "closed" || s.FailCounter != 0 {
		p.T.Errorf("service %+v", s)
	}
	checkServes(p)
}

// serves checks that a normal request is answered promptly.
func checkServes(p *harness.Proxy) {
	p.T.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: harness.EventTimeout / 2}
	res, err := client.Get(p.URL + "/svc/fine")
	if r := harness.ReadResponse(p.T, res, err); r.Status != 200 {
		p.T.Errorf("a normal request: %+v", r)
	}
}

// answers reads all that comes on a connection until its end.
func answers(t testing.TB, r *bufio.Reader) []harness.Response {
	t.Helper()
	var all []harness.Response
	for {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return all
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Errorf("after %v the answer breaks off: %v", res.Status, err)
			return all
		}
		all = append(all, harness.Response{Status: res.StatusCode, Header: res.Header, Body: string(body)})
	}
}

func statuses(all []harness.Response) []int {
	got := []int{}
	for _, r := range all {
		got = append(got, r.Status)
	}
	return got
}

// isProblem reports whether a response is one of the proxy's own errors.
func isProblem(r harness.Response) bool {
	return r.Header.Get("Content-Type") == "application/problem+json" && strings.HasPrefix(r.Header.Get("Proxy-Status"), "cbproxy; error=")
}

// rawHTTP2 is a client that says in HTTP/2 whatever it likes.
type rawHTTP2 struct {
	*http2.Framer
	t     testing.TB
	conn  net.Conn
	out   *bufio.Writer
	block bytes.Buffer
	coder *hpack.Encoder
}

func dialHTTP2(p *harness.Proxy) *rawHTTP2 {
	p.T.Helper()
	conn, r := p.Dial()
	p.T.Cleanup(func() { _ = conn.Close() })
	c := &rawHTTP2{t: p.T, conn: conn, out: bufio.NewWriter(conn)}
	c.Framer = http2.NewFramer(c.out, r)
	c.AllowIllegalWrites = true
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.coder = hpack.NewEncoder(&c.block)
	_, _ = c.out.WriteString(http2.ClientPreface)
	_ = c.WriteSettings()
	_ = c.out.Flush()
	return c
}

// fields encodes names and values, one after the other.
func (c *rawHTTP2) fields(fields ...string) []byte {
	c.block.Reset()
	for pair := range slices.Chunk(fields, 2) {
		_ = c.coder.WriteField(hpack.HeaderField{Name: pair[0], Value: pair[1]})
	}
	return slices.Clone(c.block.Bytes())
}

// request is the header section of a request and more fields.
func (c *rawHTTP2) request(method, path string, more ...string) []byte {
	return c.fields(append([]string{":method", method, ":scheme", "http", ":authority", "x", ":path", path}, more...)...)
}

// begin sends a HEADERS frame.
func (c *rawHTTP2) begin(stream uint32, block []byte, end bool) {
	_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndStream: end, EndHeaders: true})
	_ = c.out.Flush() // what becomes of it is seen by reading
}

// ending is how a stream or its connection ended.
type ending struct {
	harness.Response
	answered bool
	reset    *http2.ErrCode
	goAway   *http2.ErrCode
	closed   bool // the connection ended, or broke
}

func (e ending) String() string {
	switch {
	case e.answered:
		return fmt.Sprint(e.Status)
	case e.reset != nil:
		return "reset"
	case e.goAway != nil:
		return "goaway"
	case e.closed:
		return "closed"
	}
	return "nothing"
}

// await reads frames until a stream has ended or no more can be said on it.
func (c *rawHTTP2) await(stream uint32) ending { return c.read(stream, true) }

// awaitQuietly is await while another goroutine writes.
func (c *rawHTTP2) awaitQuietly(stream uint32) ending { return c.read(stream, false) }

func (c *rawHTTP2) read(stream uint32, acknowledge bool) (e ending) {
	e.Header = http.Header{}
	for {
		frame, err := c.ReadFrame()
		if err != nil {
			e.closed = true
			return e
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() && acknowledge {
				_ = c.WriteSettingsAck()
				_ = c.out.Flush()
			}
		case *http2.GoAwayFrame:
			e.goAway = &f.ErrCode
			if f.ErrCode != http2.ErrCodeNo {
				return e
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == stream {
				e.reset = &f.ErrCode
				return e
			}
		case *http2.MetaHeadersFrame:
			if f.StreamID != stream {
				continue
			}
			for _, field := range f.Fields {
				if field.Name == ":status" {
					_, _ = fmt.Sscan(field.Value, &e.Status)
					continue
				}
				e.Header.Add(field.Name, field.Value)
			}
			if f.StreamEnded() {
				e.answered = true
				return e
			}
		case *http2.DataFrame:
			if f.StreamID != stream {
				continue
			}
			e.Body += string(f.Data())
			if f.StreamEnded() {
				e.answered = true
				return e
			}
		}
	}
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}
