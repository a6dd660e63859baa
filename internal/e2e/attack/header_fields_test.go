package attack

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// spoofedNames are spellings of header fields that only the proxy may set.
var spoofedNames = []string{
	"X-Forwarded-For", "x-forwarded-for", "X_Forwarded_For", "X-Forwarded_For", "x_forwarded-for", "X-FORWARDED-PROTO", "X_FORWARDED_PROTO", "X-Forwarded-Host", "X_Forwarded_Host",
	"X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Client-Cert", "X-Forwarded", "X_Forwarded", "Forwarded", "X-Real-IP", "X_REAL_IP", "x-real_ip",
	"X-Circuit-Breaker-State", "X_Circuit_Breaker_State", "X-Circuit-Breaker-Service", "X-Circuit-Breaker-Anything", "X-Fallback", "X_Fallback", "X-Fallback-Reason", "X_FALLBACK_REASON",
	"Proxy-Status", "Proxy_Status",
}

// checkNothingSpoofed checks that the upstream saw one request, that it has no spoofed value, and that it has the
// proxy's forwarding fields.
func checkNothingSpoofed(t *testing.T, what string, requests []seenRequest) {
	t.Helper()
	if len(requests) != 1 {
		t.Fatalf("%s: the upstream saw %q", what, requestLines(requests))
	}
	r := requests[0]
	if strings.Contains(fmt.Sprint(r.header, r.trailer), "spoof") {
		t.Errorf("%s: the upstream saw %+v", what, r)
	}
	for name, want := range map[string]string{"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "x"} {
		if got := r.header[name]; !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %s is %q", what, name, got)
		}
	}
}

// TestClientsCannotSpoofProxyFields sends the fields as header and trailer fields, announced and not, over HTTP/1.1 and
// HTTP/2.
func TestClientsCannotSpoofProxyFields(t *testing.T) {
	t.Parallel()
	u := startRecordingUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: strictBreakerConfig(u.URL(), "")})
	var header, trailer, trailerNames strings.Builder
	var http2Fields []string
	for _, name := range spoofedNames {
		fmt.Fprintf(&header, "%s: spoof\r\n", name)
		fmt.Fprintf(&trailer, "%s: spoof\r\n", name)
		fmt.Fprintf(&trailerNames, ", %s", name)
		http2Fields = append(http2Fields, strings.ToLower(name), "spoof")
	}
	p.SendRaw("GET /svc HTTP/1.1\r\nHost: x\r\n" + header.String() + "\r\n")
	checkNothingSpoofed(t, "header", u.takeRequests())
	p.SendRaw("GET /svc HTTP/1.1\r\nHost: x\r\nConnection: close" + trailerNames.String() + "\r\n" + header.String() + "\r\n")
	checkNothingSpoofed(t, "header that Connection lists", u.takeRequests())
	for _, announced := range []string{"", "Trailer: A" + trailerNames.String() + "\r\n"} {
		r := p.SendRaw("POST /svc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + announced + "\r\n0\r\n" + trailer.String() + "A: b\r\n\r\n")
		if r.Status != 200 {
			t.Errorf("trailers: %+v", r)
		}
		checkNothingSpoofed(t, "trailers", u.takeRequests())
	}
	c := dialHTTP2(p)
	c.sendHeaders(1, c.encodeRequest("POST", "/svc", append(slices.Clone(http2Fields), "trailer", "a"+strings.ToLower(trailerNames.String()))...), false)
	c.sendHeaders(1, c.encodeFields(append(http2Fields, "a", "b")...), true)
	if result := c.awaitResult(1); result.Status != 200 {
		t.Errorf("HTTP/2: %v", result)
	}
	checkNothingSpoofed(t, "HTTP/2", u.takeRequests())
	checkHealthy(p)
}

// TestTrailersCannotChangeFramingOrRouting checks that trailer fields that would change the framing or the routing of a
// request are dropped, or the request is rejected.
func TestTrailersCannotChangeFramingOrRouting(t *testing.T) {
	t.Parallel()
	u := startRecordingUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: strictBreakerConfig(u.URL(), "")})
	for _, name := range []string{"Content-Length", "Transfer-Encoding", "Host", "Trailer", "Authorization", "Connection", "Content-Encoding", "Cookie"} {
		for _, announced := range []string{"", "Trailer: " + name + "\r\n"} {
			r := p.SendRaw("POST /svc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + announced + "\r\n5\r\nhello\r\n0\r\n" + name + ": 500\r\n\r\n")
			for _, seen := range u.takeRequests() {
				if seen.header.Get(name) == "500" || seen.host == "500" || len(seen.body) > 5 {
					t.Errorf("%s: %d, the upstream saw %+v", name, r.Status, seen)
				}
				if len(seen.trailer) > 0 {
					t.Errorf("%s: the upstream saw %+v", name, seen)
				}
			}
		}
	}
	checkHealthy(p)
}

// TestHopByHopRequestFieldsAreRemoved checks that hop-by-hop fields are not forwarded, and that a client cannot remove
// the proxy's fields by listing them in Connection.
func TestHopByHopRequestFieldsAreRemoved(t *testing.T) {
	t.Parallel()
	u := startRecordingUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: strictBreakerConfig(u.URL(), "")})
	r := p.SendRaw("POST /svc HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Type: text/plain\r\nX-Mine: y\r\nTraceparent: t\r\n" +
		"Connection: Host, Content-Length, Transfer-Encoding, X-Forwarded-For\r\nConnection: x-forwarded-host,X-FORWARDED-PROTO , X-Mine,,\r\n" +
		"Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic x\r\nProxy-Authenticate: Basic\r\nTE: gzip, trailers\r\n\r\nhello")
	seen := u.takeRequests()
	checkNothingSpoofed(t, "Connection", seen)
	if r.Status != 200 || seen[0].body != "hello" || seen[0].length != 5 || seen[0].host == "" || seen[0].header.Get("Content-Type") == "" || seen[0].header.Get("Traceparent") == "" {
		t.Errorf("%+v, the upstream saw %+v", r, seen)
	}
	for _, name := range []string{"X-Mine", "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Proxy-Authenticate", "Upgrade", "Trailer"} {
		if v := seen[0].header.Values(name); len(v) > 0 {
			t.Errorf("%s: %q reached the upstream", name, v)
		}
	}
	if te := seen[0].header["Te"]; te != nil && !slices.Equal(te, []string{"trailers"}) {
		t.Errorf("TE: %q reached the upstream", te)
	}
	checkHealthy(p)
}

// TestUpstreamsCannotSpoofProxyFields checks that an upstream can neither set the proxy's response fields, in any header
// or trailer section, nor remove them by listing them in Connection, over HTTP/1.1 and HTTP/2.
func TestUpstreamsCannotSpoofProxyFields(t *testing.T) {
	t.Parallel()
	const names = "X-Circuit-Breaker-State, X-Circuit-Breaker-Service, X-Fallback, X-Fallback-Reason, Proxy-Status"
	fields := strings.ReplaceAll(names, ", ", ": spoof\r\n") + ": spoof\r\n"
	u := harness.StartRawUpstream(t, harness.RespondWith("HTTP/1.1 103 Early Hints\r\n"+fields+"\r\nHTTP/1.1 200 OK\r\nConnection: "+names+", Content-Type, Content-Length\r\nKeep-Alive: spoof\r\nProxy-Authenticate: spoof\r\n"+
		"Upgrade: spoof\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\nTrailer: "+names+"\r\n"+fields+"\r\n2\r\nok\r\n0\r\n"+fields+"\r\n", true))
	p := harness.StartProxy(t, harness.Options{Config: strictBreakerConfig(u.URL(), "")})
	c, r := p.Dial()
	defer c.Close()
	_, _ = io.WriteString(c, "GET /svc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	raw, err := io.ReadAll(r)
	if err != nil || strings.Contains(string(raw), "spoof") || !strings.Contains(string(raw), "X-Circuit-Breaker-State: closed\r\n") || !strings.Contains(string(raw), "X-Circuit-Breaker-Service: svc\r\n") {
		t.Errorf("%q, %v", raw, err)
	}
	h2 := dialHTTP2(p)
	h2.sendHeaders(1, h2.encodeRequest("GET", "/svc"), true)
	result := h2.awaitResult(1)
	if fmt.Sprint(result.Header) == "" || strings.Contains(fmt.Sprint(result.Header), "spoof") || !slices.Equal(result.Header["X-Circuit-Breaker-State"], []string{"closed"}) || result.Body != "ok" {
		t.Errorf("over HTTP/2: %+v", result)
	}
	checkHealthy(p)
}
