package attack

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"cbproxy/internal/e2e/harness"
)

// http2Case is an HTTP/2 request that, converted naively, would be several requests or another request in HTTP/1.1.
type http2Case struct {
	fields   []string // names and values; a pseudo-header field replaces the default one
	body     string   // sent in a DATA frame unless it is empty
	trailers []string // names and values
	upstream string   // the only request line that may reach the upstream; "" for none
}

const smuggled = "GET /svc/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

var http2Cases = map[string]http2Case{
	"valid":         {nil, "hello", nil, "POST /"},
	"with trailers": {[]string{"trailer", "a"}, "hello", []string{"a", "b"}, "POST /"},

	"a content-length below the body's length": {[]string{"content-length", "3"}, "hello", nil, "POST /"},
	"a content-length above the body's length": {[]string{"content-length", "500"}, "hello", nil, "POST /"},
	"a content-length of 0":                    {[]string{"content-length", "0"}, smuggled, nil, "POST /"},
	"a content-length without a body":          {[]string{"content-length", "5"}, "", nil, "POST /"},
	"conflicting content-lengths":              {[]string{"content-length", "5", "content-length", "6"}, "hello", nil, "POST /"},
	"a content-length with a sign":             {[]string{"content-length", "+5"}, "hello", nil, "POST /"},
	"transfer-encoding":                        {[]string{"transfer-encoding", "chunked"}, "0\r\n\r\n" + smuggled, nil, ""},
	"transfer-encoding: identity":              {[]string{"transfer-encoding", "identity"}, "hello", nil, ""},
	"transfer-encoding before a space":         {[]string{"transfer-encoding ", "chunked"}, "0\r\n\r\n" + smuggled, nil, ""},
	"transfer_encoding in capitals":            {[]string{"Transfer-Encoding", "chunked"}, "0\r\n\r\n" + smuggled, nil, ""},
	"connection":                               {[]string{"connection", "close"}, "hello", nil, ""},
	"keep-alive":                               {[]string{"keep-alive", "5"}, "hello", nil, ""},
	"proxy-connection":                         {[]string{"proxy-connection", "close"}, "hello", nil, ""},
	"upgrade":                                  {[]string{"upgrade", "websocket"}, "hello", nil, ""},
	"te: gzip":                                 {[]string{"te", "gzip"}, "hello", nil, ""},
	"te: trailers, chunked":                    {[]string{"te", "trailers, chunked"}, "hello", nil, ""},
	"a name in capitals":                       {[]string{"X-Large", "a"}, "hello", nil, ""},
	"an empty name":                            {[]string{"", "a"}, "hello", nil, ""},
	"a name with a colon":                      {[]string{"a:b", "c"}, "hello", nil, ""},
	"a name with CRLF":                         {[]string{"a: b\r\nc", "d"}, "hello", nil, ""},
	"a name with a NUL":                        {[]string{"a\x00", "b"}, "hello", nil, ""},
	"a value with CRLF":                        {[]string{"a", "b\r\n\r\n" + smuggled}, "", nil, ""},
	"a value with LF":                          {[]string{"a", "b\nc: d"}, "", nil, ""},
	"a value with CR":                          {[]string{"a", "b\rc: d"}, "", nil, ""},
	"a value with a NUL":                       {[]string{"a", "b\x00c"}, "", nil, ""},
	"a pseudo-header after a field":            {[]string{"a", "b", ":path", "/svc/other"}, "", nil, ""},
	"two paths":                                {[]string{":path", "/svc/a", ":path", "/svc/b"}, "", nil, ""},
	"two authorities":                          {[]string{":authority", "x", ":authority", "y"}, "", nil, ""},
	"an unknown pseudo-header":                 {[]string{":a", "b"}, "", nil, ""},
	":status in a request":                     {[]string{":status", "200"}, "", nil, ""},
	"authority and host that differ":           {[]string{"host", "inner"}, "", nil, "POST /"},
	"an authority with CRLF":                   {[]string{":authority", "x\r\na: b"}, "", nil, ""},
	"an authority with a space":                {[]string{":authority", "x y"}, "", nil, ""},
	"an authority with a path":                 {[]string{":authority", "x/svc/other"}, "", nil, ""},
	"an authority with a user":                 {[]string{":authority", "user:pass@x"}, "", nil, ""},
	"no path":                                  {[]string{":path", ""}, "", nil, ""},
	"a path without a slash":                   {[]string{":path", "svc"}, "", nil, ""},
	"a path of another host":                   {[]string{":path", "http://inner/svc"}, "", nil, ""},
	"a path with a space":                      {[]string{":path", "/svc/a HTTP/1.1"}, "", nil, ""},
	"a query with a space":                     {[]string{":path", "/svc/a?b HTTP/1.1"}, "", nil, ""},
	"a path with // and a space":               {[]string{":path", "/svc//a HTTP/1.1"}, "", nil, ""},
	"a path with CRLF":                         {[]string{":path", "/svc HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled}, "", nil, ""},
	"a query with CRLF":                        {[]string{":path", "/svc?a HTTP/1.1\r\nHost: x\r\n\r\n" + smuggled}, "", nil, ""},
	"a path with a NUL":                        {[]string{":path", "/svc/\x00"}, "", nil, ""},
	"a path with a fragment":                   {[]string{":path", "/svc/a#b"}, "", nil, ""},
	"a path with dots":                         {[]string{":path", "/svc/../a"}, "", nil, ""},
	"a path of *":                              {[]string{":path", "*"}, "", nil, ""},
	"a method with a space":                    {[]string{":method", "GET /svc/smuggled HTTP/1.1\r\nHost: x\r\n\r\nPOST"}, "", nil, ""},
	"a method with only a space":               {[]string{":method", "GET /svc"}, "", nil, ""},
	"an empty method":                          {[]string{":method", ""}, "", nil, ""},
	"a scheme with CRLF":                       {[]string{":scheme", "http://x/\r\na: b"}, "", nil, ""},
	"CONNECT":                                  {[]string{":method", "CONNECT"}, "", nil, ""},
	"a websocket by extended CONNECT":          {[]string{":method", "CONNECT", ":protocol", "websocket"}, "hello", nil, ""},
	":protocol without CONNECT":                {[]string{":protocol", "websocket"}, "", nil, ""},
	"a pseudo-header in trailers":              {[]string{"trailer", "a"}, "hello", []string{":path", "/svc/smuggled"}, "POST /"},
	"framing in trailers":                      {[]string{"trailer", "content-length, transfer-encoding"}, "hello", []string{"content-length", "500", "transfer-encoding", "chunked"}, "POST /"},
	"CRLF in trailers":                         {[]string{"trailer", "a"}, "hello", []string{"a", "b\r\n\r\n" + smuggled}, "POST /"},
	"a name in capitals in trailers":           {[]string{"trailer", "a"}, "hello", []string{"A", "b"}, "POST /"},
	"the proxy's own fields in trailers":       {[]string{"trailer", "x-forwarded-for, x_forwarded_for, host, authorization"}, "hello", []string{"x-forwarded-for", "6.6.6.6", "x_forwarded_for", "6.6.6.6", "host", "inner", "authorization", "x"}, "POST /"},
	"trailers that were not announced":         {nil, "hello", []string{"x-forwarded-for", "6.6.6.6", "a", "b"}, "POST /"},
}

// headerFields returns the fields of the request, with pseudo-header fields first, unless the case places them elsewhere.
func (s http2Case) headerFields() []string {
	fields := []string{":method", "POST", ":scheme", "http", ":authority", "x", ":path", "/svc"}
	for pair := range slices.Chunk(s.fields, 2) {
		if i := slices.Index(fields, pair[0]); i >= 0 && i%2 == 0 && i < 8 && !slices.Contains(fields[8:], "a") && len(s.fields) == 2 {
			fields[i+1] = pair[1]
			continue
		}
		if strings.HasPrefix(pair[0], ":") && !slices.Contains(s.fields, "a") {
			fields = slices.Concat(pair, fields)
			continue
		}
		fields = append(fields, pair...)
	}
	return fields
}

// TestHTTP2CannotSmuggleRequests checks that each case reaches the upstream as the one request that it is, or not at
// all.
func TestHTTP2CannotSmuggleRequests(t *testing.T) {
	t.Parallel()
	u := startRecordingUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: strictBreakerConfig(u.URL(), ", timeout: 10")})
	for name, s := range http2Cases {
		c := dialHTTP2(p)
		c.sendHeaders(1, c.encodeFields(s.headerFields()...), s.body == "")
		if s.body != "" {
			_ = c.WriteData(1, s.trailers == nil, []byte(s.body))
		}
		if s.trailers != nil {
			c.sendHeaders(1, c.encodeFields(s.trailers...), true)
		}
		_ = c.out.Flush()
		result := c.awaitResult(1)
		_ = c.conn.Close()
		harness.Eventually(t, "no request is in flight", func() bool { return p.Metric(`cbproxy_requests_in_flight{service="svc"}`) == 0 })
		requests := u.takeRequests()
		switch {
		case result.complete && result.Status < 400 && s.upstream == "":
			t.Errorf("%s: status %d", name, result.Status)
		case len(requests) > 1, len(requests) == 1 && requests[0].line != s.upstream:
			t.Errorf("%s: the upstream saw %q", name, requestLines(requests))
		case result.complete && result.Status < 400 && len(requests) != 1:
			t.Errorf("%s: status %d, the upstream saw %q", name, result.Status, requestLines(requests))
		}
		for _, r := range requests {
			if len(r.body) > len(s.body) || r.host == "inner" || len(r.header["Transfer-Encoding"]) > 0 ||
				len(r.trailer) > 0 && name != "with trailers" && result.Status == 200 && r.trailer.Get("A") == "" {
				t.Errorf("%s: the upstream saw %+v", name, r)
			}
			for field := range r.trailer {
				if field != "A" {
					t.Errorf("%s: the upstream saw the trailer field %s", name, field)
				}
			}
		}
	}
	checkHealthy(p)
}

// TestInvalidHTTP2FramesReachNoUpstream checks that invalid frames, or valid ones in a wrong place, end the stream or the
// connection, and send nothing to the upstream.
func TestInvalidHTTP2FramesReachNoUpstream(t *testing.T) {
	t.Parallel()
	u := startRecordingUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: strictBreakerConfig(u.URL(), ", timeout: 10")})
	for name, send := range map[string]func(c *rawHTTP2){
		"DATA before HEADERS":          func(c *rawHTTP2) { _ = c.WriteData(1, true, []byte(smuggled)) },
		"DATA on stream 0":             func(c *rawHTTP2) { _ = c.WriteData(0, true, []byte(smuggled)) },
		"HEADERS on stream 0":          func(c *rawHTTP2) { c.sendHeaders(0, c.encodeRequest("GET", "/svc"), true) },
		"HEADERS on a server's stream": func(c *rawHTTP2) { c.sendHeaders(2, c.encodeRequest("GET", "/svc"), true) },
		"CONTINUATION alone":           func(c *rawHTTP2) { _ = c.WriteContinuation(1, true, c.encodeRequest("GET", "/svc")) },
		"PUSH_PROMISE": func(c *rawHTTP2) {
			_ = c.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: c.encodeRequest("GET", "/svc"), EndHeaders: true})
		},
		"a stream with a lower number": func(c *rawHTTP2) { c.sendHeaders(3, nil, true); c.sendHeaders(1, c.encodeRequest("GET", "/svc"), true) },
		"an invalid header block":      func(c *rawHTTP2) { c.sendHeaders(1, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, true) },
		"a frame over the size limit":  func(c *rawHTTP2) { _ = c.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 1<<20+1)) },
		"a second preface":             func(c *rawHTTP2) { _, _ = c.out.WriteString(http2.ClientPreface) },
		"an HTTP/1.1 request":          func(c *rawHTTP2) { _, _ = c.out.WriteString(smuggled) },
		"a SETTINGS frame of 5 bytes":  func(c *rawHTTP2) { _ = c.WriteRawFrame(http2.FrameSettings, 0, 0, make([]byte, 5)) },
		"a window over 2^31-1": func(c *rawHTTP2) {
			_ = c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31})
		},
		"a window update of 0": func(c *rawHTTP2) { _ = c.WriteWindowUpdate(0, 0) },
		"window updates that overflow": func(c *rawHTTP2) {
			for range 3 {
				_ = c.WriteWindowUpdate(0, 1<<31-1)
			}
		},
	} {
		c := dialHTTP2(p)
		send(c)
		_ = c.out.Flush()
		if result := c.awaitResult(1); result.complete && result.Status < 400 {
			t.Errorf("%s: %v", name, result)
		}
		_ = c.conn.Close()
		if requests := u.takeRequests(); len(requests) > 0 {
			t.Errorf("%s: the upstream saw %+v", name, requests)
		}
	}
	checkHealthy(p)
}
