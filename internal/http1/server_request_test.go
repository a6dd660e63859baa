package http1

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"
)

var plain = []string{
	"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /a//b/../c%2f%00?x=%zz&y;z HTTP/1.1\r\nHost: a.example:8080\r\nUser-Agent: \r\nAccept:*/*\r\n\r\n",
	"HEAD /a HTTP/1.1\r\nhost: [::1]:80\r\nx-a: 1\r\nX-A:\t2 \r\nCookie: a=b; c\r\nCookie: d\r\nX_y: z\r\n\r\n",
	"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: Keep-Alive\r\n\r\nabc",
	"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
	"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0004\r\n\r\n\r\n\r\n",
	"DELETE /a HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\nKeep-Alive: timeout=5\r\n\r\n",
	"OPTIONS /a HTTP/1.1\r\nHost: a\r\nForwarded: for=a\r\n\r\n",
}

// notPlain are requests that must be left to net/http, whether it accepts them or not.
var notPlain = []string{
	"", "\r\n", "G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\n",
	"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.1\r\n\r\n",
	"GET / HTTP/1.1\r\nHost:\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
	"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.10\r\nHost: a\r\n\r\n",
	"GET / http/1.1\r\nHost: a\r\n\r\n",
	"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
	"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
	"get / HTTP/1.1\r\nHost: a\r\n\r\n",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
	"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
	"GET / HTTP/1.1\nHost: a\n\n",
	"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\n X: b\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nX: \xff\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, x\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nTe: trailers\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nPragma: no-cache\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nContent-Length: 1\r\n\r\na",
	"POST / HTTP/1.1\r\nHost: a\r\nTrailer: X\r\nContent-Length: 1\r\n\r\na",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\na",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551617\r\n\r\na",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na",
	"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nab",
	"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
}

func TestParseRequestAcceptsPlainRequestsOnly(t *testing.T) {
	for _, text := range plain {
		if parseRequest(new(http.Request), []byte(text)) != len(text) {
			t.Errorf("%q was not accepted", text)
		}
		compareWithNetHTTP(t, []byte(text))
		for n := strings.Index(text, "\r\n\r\n") + 4; n < len(text); n++ {
			if size := parseRequest(new(http.Request), []byte(text[:n])); size != len(text) {
				t.Errorf("size for the first %d bytes of %q: %d", n, text, size)
			}
		}
	}
	for _, text := range notPlain {
		if r := new(http.Request); text != "" && parseRequest(r, []byte(text)) == len(text) {
			t.Errorf("%q was accepted as %+v", text, r)
		}
	}
}

// compareWithNetHTTP checks that net/http parses the same request from text if that is plain, and consumes all of it.
func compareWithNetHTTP(t *testing.T, text []byte) {
	t.Helper()
	got := new(http.Request)
	if size := parseRequest(got, text); size == 0 || size != len(text) {
		return
	}
	left := bufio.NewReader(bytes.NewReader(text))
	want, err := http.ReadRequest(left)
	if err != nil {
		t.Fatalf("%q was accepted: net/http reports %v", text, err)
	}
	gotBody, _ := io.ReadAll(got.Body)
	wantBody, err := io.ReadAll(want.Body)
	if err != nil || !bytes.Equal(gotBody, wantBody) {
		t.Errorf("%q: the body is %q, net/http's is %q, %v", text, gotBody, wantBody, err)
	}
	if rest, _ := io.ReadAll(left); len(rest) > 0 {
		t.Errorf("%q: net/http does not consume %q", text, rest)
	}
	got.Body, want.Body = nil, nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q: parsed as\n%+v, by net/http as\n%+v", text, got, want)
	}
}

func FuzzParseRequestMatchesNetHTTP(f *testing.F) {
	for _, text := range plain {
		f.Add([]byte(text))
	}
	for _, text := range notPlain {
		f.Add([]byte(text))
	}
	f.Fuzz(compareWithNetHTTP)
}

// Requests from a corpus of smuggling attacks must be left to net/http or be parsed alike.
func TestParseRequestWithSmugglingCorpus(t *testing.T) {
	corpus, err := os.Open("../../../shared/smuggling-corpus.jsonl")
	if err != nil {
		t.Skip(err)
	}
	defer corpus.Close()
	n, accepted := 0, 0
	for d := json.NewDecoder(corpus); ; n++ {
		var entry struct {
			Raw string `json:"raw"`
		}
		if err := d.Decode(&entry); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		raw, err := base64.StdEncoding.DecodeString(entry.Raw)
		if err != nil {
			t.Fatal(err)
		}
		compareWithNetHTTP(t, raw)
		if parseRequest(new(http.Request), raw) == len(raw) {
			accepted++
		}
	}
	t.Logf("%d of %d requests are plain", accepted, n)
}
