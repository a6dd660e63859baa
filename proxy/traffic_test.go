package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// h2cClient returns a client that uses HTTP/2 without TLS.
func h2cClient(t testing.TB) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// Trailers of requests and responses are forwarded with HTTP/1.1 and HTTP/2 on both sides.
func TestTrailersAreForwarded(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "Announced")
		fmt.Fprintf(w, "%s %s", body, r.Trailer.Get("Up"))
		_ = http.NewResponseController(w).Flush()
		w.Header().Set("Announced", "yes")
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	})
	plain := httptest.NewServer(handler)
	defer plain.Close()
	both := httptest.NewUnstartedServer(handler)
	both.Config.Protocols = new(http.Protocols)
	both.Config.Protocols.SetUnencryptedHTTP2(true)
	both.Start()
	defer both.Close()
	for _, upstream := range []string{plain.URL, strings.Replace(both.URL, "http:", "h2c:", 1)} {
		_, address, _ := start(t, routeConfig(upstream))
		for name, client := range map[string]*http.Client{"HTTP/1.1": http.DefaultClient, "HTTP/2": h2cClient(t)} {
			r, _ := http.NewRequest(http.MethodPost, "http://"+address+"/svc", io.MultiReader(strings.NewReader("hello")))
			r.Trailer = http.Header{"Up": {"trailer"}}
			res, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil || string(body) != "hello trailer" || res.Trailer.Get("Announced") != "yes" || res.Trailer.Get("Grpc-Status") != "0" {
				t.Errorf("%s to %.4s: %q, %v, trailers %v", name, upstream, body, err, res.Trailer)
			}
		}
	}
}

// Errors of HTTP/2 clients and timeouts of their requests are classified as with HTTP/1.1.
func TestHTTP2ClientErrorsAndTimeouts(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/hang" {
			<-r.Context().Done()
		}
	}))
	defer upstream.Close()
	_, address, recorded := start(t, "limits: {body_bytes: 64KiB}\n"+routeConfig(upstream.URL, "timeout: 0.5", "breaker: {fail_max: 1}"))
	client := h2cClient(t)
	large := make([]byte, 1<<20)
	for name, body := range map[string]io.Reader{
		"known length":   bytes.NewReader(large),
		"unknown length": io.MultiReader(bytes.NewReader(large)),
	} {
		res, err := client.Post("http://"+address+"/svc", "text/plain", body)
		if err != nil || res.StatusCode != 413 {
			t.Errorf("%s: %v, %v", name, res, err)
		}
		if o := recorded.next(t); o.Result != events.ResultCancelled {
			t.Errorf("%s: %+v", name, o)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/svc/hang", nil)
	if _, err := client.Do(r); err == nil {
		t.Error("the request was not cancelled")
	}
	if o := recorded.next(t); o.Result != events.ResultCancelled {
		t.Errorf("a cancelled request: %+v", o)
	}
	res, err := client.Get("http://" + address + "/svc/hang")
	if err != nil || res.StatusCode != 504 {
		t.Errorf("%v, %v", res, err)
	}
	if o := recorded.next(t); o.Failure == nil || o.Failure.Type != events.ErrorTimeout {
		t.Errorf("an upstream that does not respond: %+v", o)
	}
}

func TestUntrustedCertificateIsAConnectFailure(t *testing.T) {
	upstream := httptest.NewTLSServer(http.NotFoundHandler())
	upstream.Config.ErrorLog = nil
	defer upstream.Close()
	_, address, recorded := start(t, routeConfig(upstream.URL))
	if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 502 {
		t.Errorf("status %d", res.StatusCode)
	}
	if o := recorded.next(t); o.Failure == nil || o.Failure.Type != events.ErrorConnect {
		t.Errorf("%+v", o.Failure)
	}
}

// The outcome of a response larger than response_buffer is recorded at its end.
func TestTruncatedLargeResponseIsAFailure(t *testing.T) {
	url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", 300_000))
	})
	server, address, recorded := start(t, routeConfig(url, "breaker: {fail_max: 1}"))
	res, err := http.Get("http://" + address + "/svc")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, res.Body); err == nil {
		t.Errorf("%d bytes and no error", n)
	}
	if o := recorded.next(t); o.Failure == nil || o.Failure.Type != events.ErrorTruncated {
		t.Errorf("%+v %+v", o, o.Failure)
	}
	if server.Breaker("svc").State() != events.Open {
		t.Error("the breaker has not recorded the failure")
	}
}

// A client that does not read its response blocks the upstream's connection until the timeout. That is no failure of the upstream.
func TestSlowReaderRecordsNoFailure(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000000")
		_, _ = io.CopyN(w, zeros{}, 100_000_000)
	}))
	defer upstream.Close()
	server, address, recorded := start(t, routeConfig(upstream.URL, "timeout: 0.5", "breaker: {fail_max: 1}"))
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET /svc HTTP/1.1\r\nHost: x\r\n\r\n") // and the response is not read
	if o := recorded.next(t); o.Result != events.ResultCancelled {
		t.Errorf("%+v %+v", o, o.Failure)
	}
	if server.Breaker("svc").State() != events.Closed {
		t.Error("a slow reader opened the breaker")
	}
}

// zeros is an endless reader.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestConnectionIsReusedAfterAFallbackToAnUpload(t *testing.T) {
	server, address, recorded := start(t, routeConfig("http://127.0.0.1:1")+"fallbacks: {svc: {static: {body: sorry}}}\n")
	server.Breaker("svc").Force(events.Open, 0, "")
	reused := 0
	trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if i.Reused {
			reused++
		}
	}}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	const uploads = 10
	for range uploads {
		ctx := httptrace.WithClientTrace(t.Context(), trace)
		r, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/svc", strings.NewReader(strings.Repeat("x", 50_000)))
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if string(body) != `"sorry"` {
			t.Errorf("%q", body)
		}
		recorded.next(t)
	}
	if reused < uploads/2 {
		t.Errorf("%d of %d uploads reused a connection", reused, uploads)
	}
}

// A body with Expect: 100-continue is requested from the client only if the upstream requests it.
func TestUploadWaitsForTheUpstreamsContinue(t *testing.T) {
	url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if q, err := http.ReadRequest(r); err == nil && q.Header.Get("Expect") == "100-continue" {
			_, _ = io.WriteString(c, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
			_, _ = io.Copy(io.Discard, r)
		}
	})
	_, address, recorded := start(t, routeConfig(url))
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(c, "PUT /svc HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\nExpect: 100-continue\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != 401 {
		t.Fatalf("%v, %v", res, err)
	}
	if o := recorded.next(t); o.Result != events.ResultSuccess {
		t.Errorf("%+v", o)
	}
}

// Fields that the proxy adds to responses are removed from the upstream's responses and trailers.
func TestUpstreamCannotSetProxyHeaders(t *testing.T) {
	url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		_, _ = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nX-Fallback: static\r\nLink: </a>\r\n\r\n"+
			"HTTP/1.1 200 OK\r\nConnection: X-Circuit-Breaker-State, X-Circuit-Breaker-Service\r\nX-Circuit-Breaker-State: open\r\n"+
			"X-Fallback: static\r\nX-Fallback-Reason: open\r\nProxy-Status: cbproxy; error=x\r\n"+
			"Transfer-Encoding: chunked\r\nTrailer: X-Fallback, X-Fine\r\n\r\n"+
			"2\r\nok\r\n0\r\nX-Fallback: static\r\nX-Fine: yes\r\nX-Circuit-Breaker-State: open\r\n\r\n")
	})
	_, address, _ := start(t, routeConfig(url))
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET /svc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	response, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, removed := range []string{"X-Fallback", "Proxy-Status", "X-Circuit-Breaker-State: open"} {
		if strings.Contains(string(response), removed) {
			t.Errorf("%s was forwarded", removed)
		}
	}
	for _, forwarded := range []string{"X-Circuit-Breaker-State: closed", "X-Circuit-Breaker-Service: svc", "X-Fine: yes", "Link: </a>"} {
		if !strings.Contains(string(response), forwarded) {
			t.Errorf("no %s in\n%s", forwarded, response)
		}
	}
}

func TestProbesAreLimitedToHalfOpenRequests(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	}))
	defer upstream.Close()
	server, address, recorded := start(t, routeConfig(upstream.URL, "breaker: {half_open_requests: 2}"))
	server.Breaker("svc").Force(events.HalfOpen, 0, "")
	for range 2 {
		go func() { _, _ = http.Get("http://" + address + "/svc") }()
		<-arrived
	}
	res, _ := get(t, "http://"+address+"/svc")
	if res.StatusCode != 503 || res.Header.Get("X-Circuit-Breaker-State") != "half-open" || res.Header.Get("Retry-After") != "" {
		t.Errorf("a third probe: %d %v", res.StatusCode, res.Header)
	}
	recorded.next(t)
	close(release)
	recorded.next(t)
	recorded.next(t)
	if state := server.Breaker("svc").State(); state != events.Closed {
		t.Errorf("after two successful probes the breaker is %v", state)
	}
}

// An upload that the upstream does not read ends with the timeout, and the client gets a response.
func TestUploadThatIsNotReadTimesOut(t *testing.T) {
	url := rawUpstream(t, func(_ int, c net.Conn, _ *bufio.Reader) {
		limitReadBuffer(t, c)
		<-t.Context().Done() // nothing is read
	})
	_, address, recorded := start(t, routeConfig(url, "timeout: 3"))
	res, err := http.Post("http://"+address+"/svc", "text/plain", bytes.NewReader(make([]byte, 30<<20)))
	if err != nil || res.StatusCode != 504 {
		t.Fatalf("%v, %v", res, err)
	}
	_ = res.Body.Close()
	if o := recorded.next(t); o.Failure == nil || o.Failure.Type != events.ErrorTimeout || o.Duration > 8*time.Second {
		t.Errorf("%+v", o)
	}
}

// An upstream that offers HTTP/2 gets upgrade requests over HTTP/1.1, and other requests over HTTP/2.
func TestWebSocketReachesATLSUpstreamThatOffersHTTP2(t *testing.T) {
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			fmt.Fprint(w, r.Proto)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_ = rw.Flush()
		_, _ = io.Copy(c, rw)
	}))
	upstream.EnableHTTP2 = true
	upstream.StartTLS()
	defer upstream.Close()
	_, address, _ := start(t, routeConfig(upstream.URL, "tls: {insecure_skip_verify: true}"))
	for range 2 {
		if _, body := get(t, "http://"+address+"/svc"); body != "HTTP/2.0" {
			t.Errorf("other requests use %s", body)
		}
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprint(c, "GET /svc HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		r := bufio.NewReader(c)
		if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != 101 {
			t.Fatalf("%v, %v", res, err)
		}
		fmt.Fprint(c, "x")
		if b, err := r.ReadByte(); err != nil || b != 'x' {
			t.Errorf("%q, %v", b, err)
		}
	}
}
