package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// A request that is repeated gets the recorded response, whichever of its fields select the response: also one that it does not
// have, and one that is sent upstream in another form.
func TestRepeatedRequestGetsTheRecordedResponse(t *testing.T) {
	for name, test := range map[string]struct{ fields, vary, options string }{
		"no User-Agent":            {"", "User-Agent", ""},
		"no User-Agent in vary":    {"", "", "vary: [User-Agent]"},
		"empty User-Agent":         {"User-Agent:\r\n", "User-Agent", ""},
		"User-Agent":               {"User-Agent: a\r\n", "Accept-Encoding, User-Agent", ""},
		"TE":                       {"TE: trailers\r\nConnection: TE\r\n", "TE, Connection", ""},
		"upgrade that is refused":  {"Upgrade: websocket\r\nConnection: Upgrade\r\n", "Upgrade, Connection", ""},
		"removed field":            {"X-Forwarded-For: 192.0.2.1\r\nForwarded: for=a\r\n", "X-Forwarded-For, Forwarded, Via", ""},
		"field named by itself":    {"X-A: b\r\nConnection: X-A\r\n", "X-A", ""},
		"body":                     {"Content-Length: 2\r\n", "Content-Length", ""},
		"spelling with underscore": {"X_Real_IP: 192.0.2.1\r\n", "X-Real-IP", "vary: [X_Real_IP]"},
	} {
		t.Run(name, func(t *testing.T) {
			var alive atomic.Bool
			alive.Store(true)
			url := rawUpstream(t, func(_ int, c net.Conn, r *bufio.Reader) {
				if q, err := http.ReadRequest(r); err == nil && alive.Load() {
					_, _ = io.Copy(io.Discard, q.Body)
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nVary: "+test.vary+"\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
				}
			})
			_, address, recorded := start(t, "fallbacks: {svc: {try: [cache], cache: {"+test.options+"}}}\n"+routeConfig(url))
			request := "POST /svc HTTP/1.1\r\nHost: x\r\n" + test.fields + "\r\n"
			if strings.Contains(test.fields, "Content-Length") {
				request += "hi"
			} else {
				request = strings.Replace(request, "POST", "GET", 1)
			}
			c, r := dial(t, address)
			for _, up := range []bool{true, false} {
				alive.Store(up)
				if _, err := io.WriteString(c, request); err != nil {
					t.Fatal(err)
				}
				res := nextResponse(t, r)
				if fallback := res.Header.Get("X-Fallback"); res.StatusCode != 200 || (fallback == "cache") == up {
					t.Errorf("upstream available: %v: status %d, X-Fallback %q", up, res.StatusCode, fallback)
				}
				recorded.next(t)
				if res.Close {
					c, r = dial(t, address)
				}
			}
		})
	}
}
