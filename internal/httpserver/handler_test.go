package httpserver_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"cbproxy/internal/httpserver"
)

// RFC 9112, section 6.1: where two recipients may disagree on the end of a request, the connection must be closed after it.
func TestAmbiguousFramingClosesTheConnection(t *testing.T) {
	eachPath(t, testAmbiguousFramingClosesTheConnection)
}

func testAmbiguousFramingClosesTheConnection(t *testing.T, options httpserver.Options) {
	address := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/hints" {
			w.WriteHeader(http.StatusEarlyHints)
			clear(w.Header())
		}
		if r.URL.Path == "/header" {
			w.WriteHeader(http.StatusAccepted)
		}
		_, _ = io.WriteString(w, "response")
	}, options)
	const chunks = "5\r\nhello\r\n0\r\n\r\n"
	for request, closes := range map[string]bool{
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks:                                 true,
		"POST /header HTTP/1.1\r\nHost: x\r\ntransfer-encoding: chunked\r\nA: b\r\ncontent-length: 2\r\n\r\n" + chunks:                    true,
		"POST /hints HTTP/1.1\nHOST: x\nTRANSFER-ENCODING: chunked\nCONTENT-LENGTH: 5\n\n" + chunks:                                       true,
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\nTransfer-Encoding:\r\n chunked\r\n\r\n" + chunks:         true,
		"POST / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + "GET / HTTP/1.0\r\n\r\n":           true,
		"POST / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 15\r\n\r\n" + chunks:       true,
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks:                                                       false,
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello":                                                                    false,
		"POST / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello":                                          false,
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nContent-Length: \r\n0\r\n\r\n":                             false,
		"POST / HTTP/1.1\r\nHost: x\r\nX: content-length: 5\r\nX-Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks:        false,
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 41\r\n\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\n\r\n":                       false,
		"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\nPOST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks: false,
	} {
		for _, size := range []int{len(request), 1} {
			c, r := dial(t, address)
			go func() {
				for rest := request; len(rest) > 0; {
					n := min(size, len(rest))
					if _, err := io.WriteString(c, rest[:n]); err != nil {
						return
					}
					rest = rest[n:]
				}
			}()
			responses := strings.Count(request, "HTTP/1.")
			if closes {
				responses = 1
			}
			var last *http.Response
			for range responses {
				last = nextResponse(t, r)
			}
			if last.Close != closes && !strings.Contains(request, "HTTP/1.0") {
				t.Errorf("%q in pieces of %d: the last response has close %v", request, size, last.Close)
			}
			if closes {
				if rest, err := io.ReadAll(r); len(rest) > 0 {
					t.Errorf("%q in pieces of %d: received %q after the response, %v", request, size, rest, err)
				}
				continue
			}
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			if res := nextResponse(t, r); res.StatusCode != 200 {
				t.Errorf("%q in pieces of %d: next response on the same connection %v", request, size, res)
			}
		}
	}
}
