package http1_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http/httpguts"

	"cbproxy/internal/http1"
)

// scripts are responses of an upstream to a request with the given method, and whether it closes the connection afterwards.
var scripts = []struct {
	method, text string
	closes       bool
}{
	{"GET", ok, false},
	{"GET", ok, true},
	{"GET", "", true},
	{"POST", "", true},
	{"POST", ok, false},
	{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", false},
	{"HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false},
	{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false},
	{"GET", "HTTP/1.1 204 No Content\r\n\r\n", false},
	{"GET", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", false},
	{"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nEtag: \"a\"\r\n\r\n", false},
	{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false},
	{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", true},
	{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more", false},
	{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", false},
	{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", true},
	{"GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", true},
	{"GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok", false},
	{"GET", "HTTP/1.1 200 OK\r\n\r\nuntil the end", true},
	{"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false},
	{"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n2\r\nok\r\n0\r\nA: b\r\nC: d\r\n\r\n", false},
	{"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", false},
	{"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokk\r\n0\r\n\r\n", true},
	{"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", true},
	{"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", true},
	{"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n", false},
	{"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab", true},
	{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!", true},
	{"GET", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok", true},
	{"GET", "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + ok, false},
	{"GET", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + ok, false},
	{"GET", "HTTP/1.1 103 Early Hints\r\n\r\n", true},
	{"GET", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nraw", true},
	{"GET", "HTTP/1.1 099 Odd\r\nContent-Length: 2\r\n\r\nok", true},
	{"GET", "HTTP/1.1 000 Odd\r\nContent-Length: 2\r\n\r\nok", true},
	{"GET", "HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nok", false},
	{"GET", "HTTP/1.1 20 Odd\r\n\r\n", true},
	{"GET", "HTTP/1.1 2", true},
	{"GET", "HTTP/1.1 200 OK\r\nA", true},
	{"GET", "HTTP/1.1 200 OK\r\nA b\r\n\r\n", true},
	{"GET", "HTTP/1.1 200 OK\r\nA: b\r\n  folded\r\nContent-Length: 0\r\n\r\n", false},
	{"GET", "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", headerLimit) + "\r\n\r\n", true},
	{"GET", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", true},
	{"GET", "SSH-2.0-OpenSSH_9.9\r\n", true},
	{"GET", "\r\n\r\n" + ok, true},
	{"GET", "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", true},
	{"POST", "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno", true},
}

func TestTransportMatchesNetHTTP(t *testing.T) {
	discardLog(t)
	for _, s := range scripts {
		t.Run(fmt.Sprintf("%s %.60q closes=%t", s.method, s.text, s.closes), func(t *testing.T) { compare(t, s.method, s.text, s.closes) })
	}
}

func FuzzTransportMatchesNetHTTP(f *testing.F) {
	discardLog(f)
	for _, s := range scripts {
		f.Add(s.method, s.text, s.closes)
	}
	f.Fuzz(func(t *testing.T, method, text string, closes bool) {
		switch method {
		case "GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE":
			compare(t, method, text, closes)
		}
	})
}

// discardLog hides what net/http logs about unexpected bytes after responses.
func discardLog(t testing.TB) {
	log.SetOutput(io.Discard)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
}

// outcome describes the result of a request, and of a second one on the same connection.
type outcome struct {
	Status          int
	Header, Trailer http.Header
	Length          int64
	Coding          []string
	Body            string
	Interim         []int
	Failure         string
	Conns           int64
	Second          string
}

// secondOK is the outcome of a successful second request.
const secondOK = "200 ok <nil>"

// compare sends the same script as the response to http.Transport and to an http1.Transport, and compares the outcomes.
func compare(t *testing.T, method, text string, closes bool) {
	t.Helper()
	theirs, ours := outcomes(t, method, text, closes, brief)
	if !reflect.DeepEqual(theirs, ours) { // may be due to a busy machine
		theirs, ours = outcomes(t, method, text, closes, long)
	}
	if !reflect.DeepEqual(theirs, ours) {
		t.Errorf("response to %s is %q, closes=%t\nnet/http: %+v\nours:     %+v", method, text, closes, theirs, ours)
	}
}

// outcomes returns both outcomes, with the permitted differences removed.
func outcomes(t *testing.T, method, text string, closes bool, most time.Duration) (theirs, ours outcome) {
	t.Helper()
	theirs, ours = outcomeOf(t, false, method, text, closes, most), outcomeOf(t, true, method, text, closes, most)
	if closes && ours.Failure == "closed" && theirs.Failure == "malformed" {
		theirs.Failure = "closed" // net/http reports an incomplete header section as malformed
	}
	if ours.Conns == 2 && ours.Second == secondOK {
		theirs.Conns, theirs.Second = ours.Conns, secondOK // net/http may have taken surplus bytes for the second response
	}
	return theirs, ours
}

// Time limits of a request to which the upstream does not respond completely.
const (
	brief = 150 * time.Millisecond
	long  = 5 * time.Second
)

func outcomeOf(t *testing.T, ours bool, method, text string, closes bool, most time.Duration) (o outcome) {
	t.Helper()
	u := startUpstream(t, func(n int, c net.Conn, r *bufio.Reader) {
		if n > 0 {
			serveOK(n, c, r)
			return
		}
		if !readRequest(r) {
			return
		}
		_, _ = io.WriteString(c, text)
		if closes {
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c) // wait until the client has read everything
			return
		}
		serveOK(n, c, r)
	})
	theirs := &http.Transport{DisableCompression: true, MaxResponseHeaderBytes: headerLimit}
	defer theirs.CloseIdleConnections()
	var transport http.RoundTripper = theirs
	if ours {
		transport = transportTo(t, u)
	}
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	interim := func(code int, _ textproto.MIMEHeader) error {
		if len(o.Interim) == 10 {
			return errors.New("too many interim responses")
		}
		o.Interim = append(o.Interim, code)
		return nil
	}
	ctx = context.WithValue(ctx, http1.HooksKey{}, hooks{got1xx: interim})
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: interim})
	var body io.Reader
	if method == "POST" || method == "PUT" {
		body = strings.NewReader("some text")
	}
	res, err := transport.RoundTrip(u.request(t, method, body).WithContext(ctx))
	if err == nil {
		if httpguts.HeaderValuesContainsToken(res.Header["Connection"], "close") {
			delete(res.Header, "Connection") // http.ReadResponse deletes it, whereas http1 restores one that names other fields
		}
		o.Status, o.Header, o.Length, o.Coding = res.StatusCode, res.Header, res.ContentLength, res.TransferEncoding
		if res.StatusCode != http.StatusSwitchingProtocols { // the following bytes are not a body
			var all []byte
			all, err = io.ReadAll(res.Body)
			o.Body = string(all)
		}
		o.Trailer = res.Trailer
		_ = res.Body.Close()
	}
	o.Failure = failureKind(err)
	if err != nil || closes {
		return o
	}
	after, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	status, answer, err := result(transport.RoundTrip(u.request(t, http.MethodGet, nil).WithContext(after)))
	o.Second = fmt.Sprintf("%d %s %v", status, answer, err)
	o.Conns = u.conns.Load()
	return o
}

// failureKind classifies err.
func failureKind(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, context.DeadlineExceeded):
		return "deadline"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), strings.Contains(err.Error(), "server closed"):
		return "closed"
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return "network"
	}
	return "malformed"
}
