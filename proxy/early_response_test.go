package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/events"
)

// The upstream responds and closes the connection with most of the upload unread, so that the proxy's writes fail. The client still
// gets the response.
func TestResponseDuringUploadIsDelivered(t *testing.T) {
	url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
		}
	})
	_, address, recorded := start(t, routeConfig(url, "breaker: {fail_max: 1}"))
	upload := bytes.Repeat([]byte("x"), 8<<20)
	for i := range 20 {
		r := io.Reader(bytes.NewReader(upload))
		if i%2 == 1 {
			r = io.MultiReader(r) // unknown length
		}
		res, err := http.Post("http://"+address+"/svc", "text/plain", r)
		if err != nil {
			t.Fatalf("upload %d: %v", i, err)
		}
		body, err := io.ReadAll(res.Body)
		if res.StatusCode != 413 || string(body) != "big" {
			t.Fatalf("upload %d: status %d, body %q, %v", i, res.StatusCode, body, err)
		}
		_ = res.Body.Close()
		if o := recorded.next(t); o.Result != events.ResultSuccess {
			t.Fatalf("upload %d: %+v", i, o)
		}
	}
}

// A client that reads only after it has sent its whole body gets the error response to an upstream failure during the upload.
func TestUpstreamFailureDuringUploadIsAnswered(t *testing.T) {
	const piece, pieces = 16 << 10, 50
	url := rawUpstream(t, func(_ int, _ net.Conn, r *bufio.Reader) { _, _ = r.Discard(piece) })
	_, address, _ := start(t, routeConfig(url, "breaker: {fail_max: 0}"))
	for name, upload := range map[string]struct{ head, before, after string }{
		"known length": {fmt.Sprintf("Content-Length: %d", piece*pieces), "", ""},
		"chunked":      {"Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n", piece), "\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprintf(c, "POST /svc HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", upload.head)
			for n := range pieces {
				if _, err := io.WriteString(c, upload.before+strings.Repeat("x", piece)+upload.after); err != nil {
					t.Fatalf("piece %d: %v", n, err)
				}
				time.Sleep(2 * time.Millisecond) // the client is slow
			}
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.StatusCode != http.StatusBadGateway || !res.Close {
				t.Errorf("%+v", res)
			}
		})
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
