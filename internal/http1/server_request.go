package http1

import (
	"bytes"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// receivedBody is the body of a request that has arrived completely.
type receivedBody struct{ rest []byte }

// Read implements io.Reader.
func (b *receivedBody) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// Close implements io.Closer.
func (b *receivedBody) Close() error { return nil }

// BodyReceived reports whether body is that of a Server's request. Reading it never blocks.
func BodyReceived(body io.ReadCloser) bool {
	_, ok := body.(*receivedBody)
	return ok
}

// plainMethods are the methods that a plain request can have.
var plainMethods = map[string]bool{"GET": true, "HEAD": true, "POST": true, "PUT": true, "PATCH": true, "DELETE": true, "OPTIONS": true}

var crlf, emptyLine = []byte("\r\n"), []byte("\r\n\r\n")

// parseRequest parses the request at the start of b into r, which must be new, and returns the size of the request in bytes.
// The size exceeds len(b) if the body is incomplete. It is 0 if the request is not plain: if the header section is incomplete or
// contains anything that some recipients understand differently, or if the request is longer than readSize. The result is
// the same as that of http.ReadRequest. The body of r refers to b.
func parseRequest(r *http.Request, b []byte) (size int) {
	end := bytes.Index(b, emptyLine)
	if end < 0 {
		return 0
	}
	head, body := string(b[:end+len(crlf)]), b[end+len(emptyLine):]
	line, fields, _ := strings.Cut(head, "\r\n")
	method, rest, _ := strings.Cut(line, " ")
	target, version, _ := strings.Cut(rest, " ")
	if version != "HTTP/1.1" || !plainMethods[method] || !isPlainTarget(target) {
		return 0
	}
	r.Method, r.RequestURI, r.Body = method, target, http.NoBody
	r.Proto, r.ProtoMajor, r.ProtoMinor = version, 1, 1
	var err error
	if r.URL, err = url.ParseRequestURI(target); err != nil {
		return 0
	}
	length, ok := int64(-1), false
	r.Header, ok = parseFields(fields, func(name, value string) (keep, ok bool) {
		switch name {
		case "Host":
			ok = r.Host == "" && value != "" && httpguts.ValidHostHeader(value)
			r.Host = value
			return false, ok
		case "Content-Length":
			length, ok = parseLength(value, length)
			return true, ok
		case "Connection":
			return true, strings.EqualFold(value, "keep-alive")
		case "Transfer-Encoding", "Upgrade", "Expect", "Trailer", "Te", "Pragma":
			return false, false
		}
		return true, true
	})
	length = max(length, 0)
	total := int64(end+len(emptyLine)) + length
	if !ok || r.Host == "" || total > readSize {
		return 0
	}
	if length > 0 {
		r.ContentLength, r.Body = length, &receivedBody{body[:min(length, int64(len(body)))]}
	}
	return int(total)
}

// isPlainTarget reports whether target is in origin-form (RFC 9112, section 3.2.1) and consists of visible ASCII characters.
func isPlainTarget(target string) bool {
	if target == "" || target[0] != '/' {
		return false
	}
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// parseFields returns the fields of a header section, except for those that accept does not keep. It reports false if
// recipients may understand the section differently, or if accept reports so for a field.
func parseFields(fields string, accept func(name, value string) (keep, ok bool)) (h http.Header, ok bool) {
	n := strings.Count(fields, "\n")
	h = make(http.Header, n)
	values := make([]string, n)
	for len(fields) > 0 {
		name, value, rest := cutField(fields)
		if name == "" {
			return nil, false
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		keep, ok := accept(name, value)
		switch {
		case !ok:
			return nil, false
		case !keep:
		case h[name] != nil:
			h[name] = append(h[name], value)
		default:
			values[0] = value
			h[name], values = values[:1:1], values[1:]
		}
		fields = rest
	}
	return h, true
}

// cutField splits off the first field line. The name is empty if recipients may understand the line differently.
func cutField(fields string) (name, value, rest string) {
	colon := 0
	for colon < len(fields) && isTokenChar(fields[colon]) {
		colon++
	}
	if colon == len(fields) || fields[colon] != ':' {
		return "", "", ""
	}
	end := colon + 1
	for end < len(fields) && (fields[end] >= ' ' && fields[end] < 0x7f || fields[end] == '\t') {
		end++
	}
	if !strings.HasPrefix(fields[end:], "\r\n") {
		return "", "", ""
	}
	return fields[:colon], strings.Trim(fields[colon+1:end], " \t"), fields[end+len("\r\n"):]
}

func isTokenChar(c byte) bool { return c < 0x80 && httpguts.IsTokenRune(rune(c)) }

// parseLength parses a Content-Length. previous is the value of an earlier one, negative if there was none.
func parseLength(s string, previous int64) (n int64, ok bool) {
	if s == "" || len(s) > 15 || previous >= 0 {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = 10*n + int64(s[i]-'0')
	}
	return n, true
}
