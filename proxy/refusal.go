package proxy

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"cbproxy/internal/problem"
)

// clientHandler is what a server of clientConns calls for each request.
type clientHandler struct {
	next    http.Handler
	refused refused
}

// refused is told of a request that next never sees: the client's address, and the status.
type refused func(client string, status int)

// refuse answers a request that next is not to see.
func (h clientHandler) refuse(w http.ResponseWriter, r *http.Request, status int) {
	refusals[status].Write(w)
	h.refused(r.RemoteAddr, status)
}

func (h clientHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, ok := r.Context().Value(clientConnKey{}).(*clientConn)
	if r.ProtoMajor == 2 && (!ok || !c.watched.Load()) {
		if !translatable(r) {
			h.refuse(w, r, http.StatusBadRequest)
			return
		}
		h.next.ServeHTTP(w, r)
		return
	}
	if !ok {
		h.next.ServeHTTP(w, r)
		return
	}
	c.serving.Store(true)
	switch {
	case r.ProtoMajor != 1: // net/http lets the start of HTTP/2's preface pass for a request
		w.Header()["Connection"] = []string{"close"}
		h.refuse(w, r, http.StatusHTTPVersionNotSupported)
		return
	case len(r.TransferEncoding) > 0 && c.ambiguous.Load(), r.ProtoMinor == 0 && c.codings.Load():
		w = &lastResponse{ResponseWriter: w}
	}
	if r.ProtoMinor == 0 {
		c.unended.Store(true)
		h.next.ServeHTTP(w, r) // a panic leaves it so
		c.unended.Store(false)
		return
	}
	h.next.ServeHTTP(w, r)
}

// translatable reports whether a request of HTTP/2 can be said in HTTP/1.1 and stays one
// request. net/http checks the method, the target and the Host of HTTP/1 so, but takes
// nearly everything from HTTP/2: a space in a path would end the target of the upstream's
// request line, and a method or Host that http.Transport refuses would count as a failure of
// the upstream.
func translatable(r *http.Request) bool {
	target := r.RequestURI
	return httpguts.ValidHeaderFieldName(r.Method) && httpguts.ValidHostHeader(r.Host) &&
		(strings.HasPrefix(target, "/") || target == "*" || r.Method == http.MethodConnect) &&
		!strings.ContainsFunc(target, func(c rune) bool { return c <= ' ' || c == 0x7f })
}

// lastResponse closes the connection after a response. RFC 9112, section 6.1, demands this
// for a request whose framing somebody in front may have understood in another way: one
// with both a Content-Length and a Transfer-Encoding, and one of HTTP/1.0 with the latter.
type lastResponse struct {
	http.ResponseWriter
	begun bool
}

func (w *lastResponse) WriteHeader(status int) {
	if status >= http.StatusOK {
		w.begun = true
		w.Header()["Connection"] = []string{"close"} // so late because whoever sends 1xx clears the map
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *lastResponse) Write(p []byte) (int, error) {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (w *lastResponse) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// refusals are what is said to a client where net/http refuses a request before any handler
// sees it. Nothing of what the client has sent is in them.
var refusals = map[int]*problem.Problem{
	http.StatusBadRequest:                  problem.New(http.StatusBadRequest, "http_request_error", "the request is malformed"),
	http.StatusExpectationFailed:           problem.New(http.StatusExpectationFailed, "http_request_error", "the only expectation is 100-continue"),
	http.StatusRequestHeaderFieldsTooLarge: problem.HeadersTooLarge,
	http.StatusNotImplemented:              problem.New(http.StatusNotImplemented, "http_request_error", "the only transfer coding of requests is chunked"),
	http.StatusHTTPVersionNotSupported:     problem.New(http.StatusHTTPVersionNotSupported, "http_request_error", "the versions are HTTP/1.1 and HTTP/2"),
}

// refusalFor returns what is to be sent instead of a whole response of net/http's own, nil
// if p is none, and its status.
func refusalFor(p []byte) (response []byte, status int) {
	line, ok := bytes.CutPrefix(p, []byte("HTTP/1.1 "))
	if !ok || len(line) < 3 {
		return nil, 0
	}
	status, err := strconv.Atoi(string(line[:3]))
	if err != nil || status < 400 || status > 599 {
		return nil, 0
	}
	replacement := refusals[status]
	if replacement == nil {
		replacement = problem.New(status, "http_request_error", "the request is refused")
	}
	return replacement.AppendHTTP1(nil, time.Now()), status
}
