package httpserver

import (
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// handler is the handler of both servers. It responds to requests that are invalid for the next handler, and closes connections
// with ambiguous framing after the response.
type handler struct {
	next      http.Handler
	onInvalid func(client string, status int)
}

// ServeHTTP implements http.Handler.
func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, ok := ConnOf(r.Context())
	// The request line "PRI * HTTP/2.0" of an HTTP/1 connection also has the major version 2. It is rejected below.
	isHTTP2 := r.ProtoMajor == 2 && (!ok || !c.isHTTP1.Load())
	if isHTTP2 {
		if !isForwardableHTTP2(r) {
			h.respondInvalid(w, r, http.StatusBadRequest)
			return
		}
		h.next.ServeHTTP(w, r)
		return
	}
	if !ok {
		h.next.ServeHTTP(w, r)
		return
	}
	c.handlerRunning.Store(true)
	if r.ProtoMajor != 1 { // net/http accepts the first line of the HTTP/2 preface as a request line
		w.Header()["Connection"] = []string{"close"}
		h.respondInvalid(w, r, http.StatusHTTPVersionNotSupported)
		return
	}
	// The two cases are described at closingWriter.
	ambiguousFraming := len(r.TransferEncoding) > 0 && c.ambiguous.Load() || r.ProtoMinor == 0 && c.sawTransferEncoding.Load()
	if ambiguousFraming {
		w = &closingWriter{ResponseWriter: w}
	}
	if r.ProtoMinor == 0 {
		c.http10Responding.Store(true)
		h.next.ServeHTTP(w, r) // after a panic it stays set
		c.http10Responding.Store(false)
		return
	}
	h.next.ServeHTTP(w, r)
}

// respondInvalid responds to an invalid request, which the next handler does not get.
func (h handler) respondInvalid(w http.ResponseWriter, r *http.Request, status int) {
	invalidRequestProblems[status].Write(w)
	h.onInvalid(r.RemoteAddr, status)
}

// isForwardableHTTP2 reports whether an HTTP/2 request can be expressed in HTTP/1.1 as exactly one request. net/http validates
// the method, the target and the Host of HTTP/1 requests, but accepts almost anything in HTTP/2: a space in a path would end
// the target in the upstream's request line, and a method or Host that http.Transport rejects would count as a failure
// of the upstream.
func isForwardableHTTP2(r *http.Request) bool {
	target := r.RequestURI
	return httpguts.ValidHeaderFieldName(r.Method) && httpguts.ValidHostHeader(r.Host) &&
		(strings.HasPrefix(target, "/") || target == "*" || r.Method == http.MethodConnect) &&
		!strings.ContainsFunc(target, func(c rune) bool { return c <= ' ' || c == 0x7f })
}

// closingWriter closes the connection after the response. RFC 9112, section 6.1, requires this for a request whose
// framing an intermediary may have understood differently: one with both Content-Length and Transfer-Encoding, and an
// HTTP/1.0 request with Transfer-Encoding.
type closingWriter struct {
	http.ResponseWriter
	wroteHeader bool
}

// WriteHeader implements http.ResponseWriter.
func (w *closingWriter) WriteHeader(status int) {
	if status >= http.StatusOK {
		w.wroteHeader = true
		w.Header()["Connection"] = []string{"close"} // not earlier: a handler that sends 1xx responses clears the map
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *closingWriter) Write(p []byte) (int, error) {
	if !w.wroteHeader {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap supports http.ResponseController.
func (w *closingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
