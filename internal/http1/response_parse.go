package http1

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
)

// parseResponse returns the response whose header section b begins with, and the section's length; nil if it is not all
// there, or not plain: with a Content-Length, and such that all recipients understand it alike. It says what
// http.ReadResponse would, to a request that is no HEAD. The body is left to the caller.
func parseResponse(b []byte, asked *http.Request) (r *http.Response, size int) {
	end := bytes.Index(b, emptyLine)
	if end < 0 || asked.Method == http.MethodHead {
		return nil, 0
	}
	head := string(b[:end+len(crlf)])
	line, fields, _ := strings.Cut(head, "\r\n")
	const version = "HTTP/1.1"
	status, ok := strings.CutPrefix(line, version+" ")
	if !ok || !isPlainStatus(status) {
		return nil, 0
	}
	code, err := strconv.Atoi(status[:3])
	if err != nil || !bodyAllowed(code) {
		return nil, 0
	}
	r = &http.Response{
		Status: status, StatusCode: code, Proto: version, ProtoMajor: 1, ProtoMinor: 1,
		ContentLength: -1, Body: http.NoBody, Request: asked,
	}
	r.Header, ok = parseFields(fields, func(name, value string) (kept, ok bool) {
		switch name {
		case "Content-Length":
			r.ContentLength, ok = parseLength(value, r.ContentLength)
			return true, ok
		case "Connection":
			return true, strings.EqualFold(value, "keep-alive")
		case "Transfer-Encoding", "Upgrade", "Trailer", "Pragma":
			return false, false
		}
		return true, true
	})
	if !ok || r.ContentLength < 0 {
		return nil, 0
	}
	return r, end + len(emptyLine)
}

// isPlainStatus reports whether s is a status code and a reason phrase (RFC 9112, section 4) in visible ASCII.
func isPlainStatus(s string) bool {
	if len(s) < 4 || s[0] < '1' || s[3] != ' ' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || i < 3 && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
