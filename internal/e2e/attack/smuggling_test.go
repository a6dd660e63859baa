package attack

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// framingCase is an HTTP/1 request whose end or meaning different parsers may see differently.
type framingCase struct {
	raw      string // sent before nextRequest on the same connection
	statuses []int  // of all responses until the connection ends
	upstream string // the request lines that may reach the upstream, separated by commas
	body     string // of the first request that reaches the upstream
}

const (
	nextRequest = "GET /svc/next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	nextOnly    = "GET /next"
	postAndNext = "POST /,GET /next"
	getAndNext  = "GET /,GET /next"
	hello       = "5\r\nhello\r\n0\r\n\r\n"
)

// post returns a POST request with the header lines and the bytes after the header section.
func post(lines, body string) string {
	return "POST /svc HTTP/1.1\r\nHost: x\r\n" + lines + "\r\n\r\n" + body
}

var framingCases = map[string]framingCase{
	// Valid requests, which show that the test detects requests at the upstream.
	"Content-Length":                   {post("Content-Length: 5", "hello"), []int{200, 200}, postAndNext, "hello"},
	"chunked":                          {post("Transfer-Encoding: chunked", hello), []int{200, 200}, postAndNext, "hello"},
	"chunked, in capitals":             {post("TRANSFER-ENCODING: CHUNKED", hello), []int{200, 200}, postAndNext, "hello"},
	"equal Content-Lengths":            {post("Content-Length: 5\r\nContent-Length: 5", "hello"), []int{200, 200}, postAndNext, "hello"},
	"Content-Length with zeroes":       {post("Content-Length: 0005", "hello"), []int{200, 200}, postAndNext, "hello"},
	"Content-Length and spaces":        {post("Content-Length: \t5 ", "hello"), []int{200, 200}, postAndNext, "hello"},
	"a small chunk extension":          {post("Transfer-Encoding: chunked", "5;a=b\r\nhello\r\n0\r\n\r\n"), []int{200, 200}, postAndNext, "hello"},
	"a body of GET":                    {"GET /svc HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", []int{200, 200}, "GET /,GET /next", "hello"},
	"a body that looks like a request": {post("Content-Length: 40", "GET /svc/smuggled HTTP/1.1\r\nHost: x\r\n\r\n!"), []int{200, 200}, postAndNext, "GET /svc/smuggled HTTP/1.1\r\nHost: x\r\n\r\n!"},
	"HTTP/1.0":                         {"POST /svc HTTP/1.0\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", []int{200}, "POST /", "hello"},
	"an absolute target, other Host":   {"GET http://inner/svc/a HTTP/1.1\r\nHost: x\r\n\r\n", []int{200, 200}, "GET /a,GET /next", ""},

	// Content-Length.
	"conflicting Content-Lengths":     {post("Content-Length: 5\r\nContent-Length: 6", "hello"), []int{400}, "", ""},
	"a list of Content-Lengths":       {post("Content-Length: 5, 5", "hello"), []int{400}, "", ""},
	"Content-Length: +5":              {post("Content-Length: +5", "hello"), []int{400}, "", ""},
	"Content-Length: -5":              {post("Content-Length: -5", "hello"), []int{400}, "", ""},
	"Content-Length: 0x5":             {post("Content-Length: 0x5", "hello"), []int{400}, "", ""},
	"Content-Length: 5 5":             {post("Content-Length: 5 5", "hello"), []int{400}, "", ""},
	"Content-Length: 5_0":             {post("Content-Length: 5_0", "hello"), []int{400}, "", ""},
	"Content-Length, empty":           {post("Content-Length: ", "hello"), []int{400}, "", ""},
	"Content-Length, overflowing":     {post("Content-Length: 18446744073709551621", "hello"), []int{400}, "", ""},
	"Content-Length, a vertical tab":  {post("Content-Length: \v5", "hello"), []int{400}, "", ""},
	"a space before the colon":        {post("Content-Length : 5", "hello"), []int{400}, "", ""},
	"a tab before the colon":          {post("Transfer-Encoding\t: chunked", hello), []int{400}, "", ""},
	"Content-Length in full width":    {post("Content-Length: \uff15", "hello"), []int{400}, "", ""},
	"a name with a NUL":               {post("Content-Length\x00: 5", "hello"), []int{400}, "", ""},
	"an empty name":                   {post(": 5", ""), []int{400}, "", ""},
	"a line without a colon":          {post("Content-Length 5", ""), []int{400}, "", ""},
	"a fold at the start":             {"GET /svc HTTP/1.1\r\n Host: x\r\n\r\n", []int{400}, "", ""},
	"a NUL in a value":                {post("A: b\x00c", ""), []int{400}, "", ""},
	"a bare CR in a value":            {post("A: b\rContent-Length: 5", ""), []int{400}, "", ""},
	"a bare CR before LF":             {"GET /svc HTTP/1.1\r\nHost: x\r\r\n\r\n", []int{400}, "", ""},
	"a bare CR at the end of a line":  {"GET /svc HTTP/1.1\rHost: x\r\r", []int{400}, "", ""},
	"an escape in a value":            {post("A: \x1b[2J", ""), []int{400}, "", ""},
	"two Hosts":                       {"GET /svc HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", []int{400}, "", ""},
	"two equal Hosts":                 {"GET /svc HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", []int{400}, "", ""},
	"no Host":                         {"GET /svc HTTP/1.1\r\nA: b\r\n\r\n", []int{400}, "", ""},
	"a Host with a space":             {"GET /svc HTTP/1.1\r\nHost: x y\r\n\r\n", []int{400}, "", ""},
	"a Host with a quote and a LF":    {"GET /svc HTTP/1.1\r\nHost: x\"\n y\r\n\r\n", []int{400}, "", ""},
	"a method with a colon":           {"GE:T /svc HTTP/1.1\r\nHost: x\r\n\r\n", []int{400}, "", ""},
	"no method":                       {" /svc HTTP/1.1\r\nHost: x\r\n\r\n", []int{400}, "", ""},
	"a target with a space":           {"GET /svc/a b HTTP/1.1\r\nHost: x\r\n\r\n", []int{400}, "", ""},
	"a target with a tab":             {"GET\t/svc HTTP/1.1\r\nHost: x\r\n\r\n", []int{400}, "", ""},
	"a target with a control byte":    {"GET /svc/\x7f HTTP/1.1\r\nHost: x\r\n\r\n", []int{400}, "", ""},
	"no version: HTTP/0.9":            {"GET /svc\r\n\r\n", []int{400}, "", ""},
	"version HTTP/1.1x":               {"GET /svc HTTP/1.1x\r\nHost: x\r\n\r\n", []int{400}, "", ""},
	"version HTTP/11":                 {"GET /svc HTTP/11\r\nHost: x\r\n\r\n", []int{400}, "", ""},
	"version http/1.1":                {"GET /svc http/1.1\r\nHost: x\r\n\r\n", []int{400}, "", ""},
	"version HTTP/0.9":                {"GET /svc HTTP/0.9\r\nHost: x\r\n\r\n", []int{505}, "", ""},
	"version HTTP/2.0":                {"GET /svc HTTP/2.0\r\nHost: x\r\n\r\n", []int{505}, "", ""},
	"a partial preface":               {"PRI * HTTP/2.0\r\n\r\n", []int{505}, "", ""},
	"a partial preface, a body":       {"PRI * HTTP/2.0\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", []int{505}, "", ""},
	"PROXY protocol":                  {"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\nGET /svc HTTP/1.1\r\nHost: x\r\n\r\n", []int{400}, "", ""},
	"404, then a request":             {"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", []int{404, 200}, nextOnly, ""},
	"404 with a body, then a request": {"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", []int{404, 200}, nextOnly, ""},
	"a rejected path, then a request": {"POST /svc/../x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + hello, []int{400, 200}, nextOnly, ""},
	"unknown expectation":             {"POST /svc HTTP/1.1\r\nHost: x\r\nExpect: 200-ok\r\nContent-Length: 5\r\n\r\nhello", []int{417}, "", ""},
	"an upgrade to h2c":               {"GET /svc HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n", []int{200, 200}, getAndNext, ""},
	"an upgrade to h2c, not listed":   {"GET /svc HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n", []int{200, 200}, getAndNext, ""},
	"an upgrade to H2C with a body":   {post("Connection: upgrade\r\nUPGRADE: H2C\r\nContent-Length: 5", "hello"), []int{200, 200}, postAndNext, "hello"},
	"an upgrade to websocket and h2c": {"GET /svc HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\n", []int{200, 200}, getAndNext, ""},
	"a declined upgrade with a body":  {post("Connection: Upgrade\r\nUpgrade: WebSocket\r\nContent-Length: 5", "hello"), []int{200, 200}, postAndNext, "hello"},

	// Transfer-Encoding.
	"Content-Length, then chunked":         {post("Content-Length: 15\r\nTransfer-Encoding: chunked", hello), []int{200}, "POST /", "hello"},
	"chunked, then a short Content-Length": {post("Transfer-Encoding: chunked\r\nContent-Length: 4", hello), []int{200}, "POST /", "hello"},
	"both, a request after the chunks":     {post("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\nGET /svc/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"), []int{200}, "POST /", ""},
	"chunked twice":                        {post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", hello), []int{501}, "", ""},
	"chunked and identity":                 {post("Transfer-Encoding: chunked, identity", hello), []int{501}, "", ""},
	"identity, then chunked":               {post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", hello), []int{501}, "", ""},
	"gzip and chunked":                     {post("Transfer-Encoding: gzip, chunked", hello), []int{501}, "", ""},
	"xchunked":                             {post("Transfer-Encoding: xchunked", hello), []int{501}, "", ""},
	"chunked with a parameter":             {post("Transfer-Encoding: chunked;q=1", hello), []int{501}, "", ""},
	"chunked in quotes":                    {post("Transfer-Encoding: \"chunked\"", hello), []int{501}, "", ""},
	"chunked and a comma":                  {post("Transfer-Encoding: ,chunked", hello), []int{501}, "", ""},
	"identity":                             {post("Transfer-Encoding: identity\r\nContent-Length: 5", "hello"), []int{501}, "", ""},
	"an empty coding":                      {post("Transfer-Encoding: \r\nContent-Length: 5", "hello"), []int{501}, "", ""},
	"chunked after a vertical tab":         {post("Transfer-Encoding: \vchunked", hello), []int{400}, "", ""},
	"a folded coding":                      {post("Transfer-Encoding:\r\n chunked", hello), []int{200, 200}, postAndNext, "hello"},
	"chunked in HTTP/1.0":                  {"POST /svc HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + hello, []int{200}, "POST /", ""},
	"both lengths in HTTP/1.0":             {"POST /svc HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 15\r\n\r\n" + hello, []int{200}, "POST /", hello},

	// Chunks.
	"chunk size 0x5":            {post("Transfer-Encoding: chunked", "0x5\r\nhello\r\n0\r\n\r\n"), []int{400}, "POST /", ""},
	"chunk size -5":             {post("Transfer-Encoding: chunked", "-5\r\nhello\r\n0\r\n\r\n"), []int{400}, "POST /", ""},
	"chunk size +5":             {post("Transfer-Encoding: chunked", "+5\r\nhello\r\n0\r\n\r\n"), []int{400}, "POST /", ""},
	"chunk size 5_0":            {post("Transfer-Encoding: chunked", "5_0\r\nhello\r\n0\r\n\r\n"), []int{400}, "POST /", ""},
	"an overflowing size":       {post("Transfer-Encoding: chunked", "10000000000000005\r\nhello\r\n0\r\n\r\n"), []int{400}, "POST /", ""},
	"no size":                   {post("Transfer-Encoding: chunked", "\r\nhello\r\n0\r\n\r\n"), []int{400}, "POST /", ""},
	"a space before the size":   {post("Transfer-Encoding: chunked", " 5\r\nhello\r\n0\r\n\r\n"), []int{400}, "POST /", ""},
	"no CRLF after a chunk":     {post("Transfer-Encoding: chunked", "5\r\nhello0\r\n\r\n"), []int{400}, "POST /", ""},
	"two bytes after a chunk":   {post("Transfer-Encoding: chunked", "5\r\nhelloXX0\r\n\r\n"), []int{400}, "POST /", ""},
	"LF after a chunk":          {post("Transfer-Encoding: chunked", "5\r\nhello\n0\r\n\r\n"), []int{400}, "POST /", ""},
	"a bare CR in an extension": {post("Transfer-Encoding: chunked", "5;\ra\r\nhello\r\n0\r\n\r\n"), []int{400}, "POST /", ""},
	"LF after the size":         {post("Transfer-Encoding: chunked", "5\nhello\r\n0\r\n\r\n"), []int{400}, "POST /", ""},
	"a huge extension":          {post("Transfer-Encoding: chunked", "5;"+strings.Repeat("a", 64<<10)+"\r\nhello\r\n0\r\n\r\n"), []int{400}, "POST /", ""},
	"many extensions":           {post("Transfer-Encoding: chunked", strings.Repeat("1;"+strings.Repeat("a", 1000)+"\r\nx\r\n", 100)+"0\r\n\r\n"), []int{400}, "POST /", ""},
}

// TestAmbiguousFramingCannotSmuggleRequests checks that the upstream receives only the requests of each case, and that
// malformed requests count as no failure of the upstream.
func TestAmbiguousFramingCannotSmuggleRequests(t *testing.T) {
	t.Parallel()
	u := startRecordingUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: strictBreakerConfig(u.URL(), ", timeout: 10")})
	for name, f := range framingCases {
		c, r := p.Dial()
		_, _ = io.WriteString(c, f.raw+nextRequest)
		got := readResponses(t, r)
		_ = c.Close()
		if !slices.Equal(statusCodes(got), f.statuses) {
			t.Errorf("%s: statuses %v, want %v", name, statusCodes(got), f.statuses)
		}
		for _, r := range got {
			if r.Status >= 400 && !isProblem(r) {
				t.Errorf("%s: not a problem document: %+v", name, r)
			}
		}
		harness.Eventually(t, "no request is in flight", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="svc"}`) == 0 })
		f.check(t, name, u.takeRequests())
	}
	checkHealthy(p)
}

// check checks the requests that the upstream received for the case.
func (f framingCase) check(t *testing.T, name string, requests []seenRequest) {
	t.Helper()
	for i, r := range requests {
		if i >= len(strings.Split(f.upstream, ",")) || r.line != strings.Split(f.upstream, ",")[i] {
			t.Errorf("%s: the upstream saw %q", name, requestLines(requests))
		}
		if len(r.header["Transfer-Encoding"]) > 0 || r.host == "inner" {
			t.Errorf("%s: the upstream saw %+v", name, r)
		}
	}
	if f.statuses[0] == 200 && (len(requests) != len(f.statuses) || requests[0].body != f.body) {
		t.Errorf("%s: the upstream saw %+v", name, requests)
	}
}

// TestUpgradesCannotSmuggleRequests checks that the bytes after a request for a WebSocket are part of its body or of the
// tunnel, and are not parsed as a request.
func TestUpgradesCannotSmuggleRequests(t *testing.T) {
	t.Parallel()
	u := harness.StartRawUpstream(t, func(c net.Conn, q *http.Request, r *bufio.Reader) bool {
		_, _ = io.Copy(io.Discard, q.Body)
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		received, _ := io.ReadAll(r) // until the client closes its side
		_, _ = fmt.Fprintf(c, "in the tunnel: %s", received)
		return false
	})
	p := harness.StartProxy(t, harness.Options{Config: strictBreakerConfig(u.URL(), "")})
	const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
	for name, raw := range map[string]string{
		"no body":        "GET /svc HTTP/1.1\r\nHost: x\r\n" + upgrade + "\r\n",
		"Content-Length": "GET /svc HTTP/1.1\r\nHost: x\r\n" + upgrade + "Content-Length: 5\r\n\r\nhello",
		"chunked":        "GET /svc HTTP/1.1\r\nHost: x\r\n" + upgrade + "Transfer-Encoding: chunked\r\n\r\n" + hello,
		"both":           "GET /svc HTTP/1.1\r\nHost: x\r\n" + upgrade + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + hello,
	} {
		before := len(u.RequestLines())
		c, r := p.Dial()
		_, _ = io.WriteString(c, raw)
		head := harness.ReadHead(t, r)
		_, _ = io.WriteString(c, smuggled)
		_ = c.(*net.TCPConn).CloseWrite()
		rest, err := io.ReadAll(r)
		if want := "in the tunnel: " + smuggled; !strings.HasPrefix(head, "HTTP/1.1 101 ") || string(rest) != want || err != nil {
			t.Errorf("%s: %q, then %q, %v", name, head, rest, err)
		}
		_ = c.Close()
		if seen := u.RequestLines()[before:]; len(seen) != 1 {
			t.Errorf("%s: the upstream saw %q", name, seen)
		}
	}
	harness.Eventually(t, "no request is in flight", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="svc"}`) == 0 })
	if got := p.RequestCounts("svc"); got["failure"] != 0 {
		t.Errorf("requests %v", got)
	}
}
