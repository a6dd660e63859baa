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

// arrived is the body of a request that has come whole.
type arrived struct{ left []byte }

func (b *arrived) Read(p []byte) (int, error) {
	if len(b.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.left)
	b.left = b.left[n:]
	return n, nil
}

func (b *arrived) Close() error { return nil }

// BodyReceived reports whether the body of a request that a Server has read is there, so that no read of it waits.
func BodyReceived(body io.ReadCloser) bool {
	_, ok := body.(*arrived)
	return ok
}

// plainMethods are those whose requests are plain.
var plainMethods = map[string]bool{"GET": true, "HEAD": true, "POST": true, "PUT": true, "PATCH": true, "DELETE": true, "OPTIONS": true}

var crlf, emptyLine = []byte("\r\n"), []byte("\r\n\r\n")

// parse reads the request with which b begins into r, which is new, and returns its size in bytes. That is more than b has if
// something of its body is missing, and 0 if the request is not plain: its header section must be there, every octet of that
// one that all recipients understand alike, and the whole at most readSize bytes long. r is what http.ReadRequest would say. Its
// body stays in b.
func parse(r *http.Request, b []byte) (size int) {
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
	r.Header, ok = parseFields(fields, func(name, value string) (kept, ok bool) {
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
	whole := int64(end+len(emptyLine)) + length
	if !ok || r.Host == "" || whole > readSize {
		return 0
	}
	if length > 0 {
		r.ContentLength, r.Body = length, &arrived{body[:min(length, int64(len(body)))]}
	}
	return int(whole)
}

// isPlainTarget reports whether target is in origin-form (RFC 9112, section 3.2.1) and has visible ASCII characters only.
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

// parseFields returns the fields of a header section, save those that look does not want to be kept. It reports whether
// all recipients understand them alike, which look may deny.
func parseFields(fields string, look func(name, value string) (kept, ok bool)) (h http.Header, ok bool) {
	n := strings.Count(fields, "\n")
	h = make(http.Header, n)
	values := make([]string, n)
	for len(fields) > 0 {
		name, value, rest := cutField(fields)
		if name == "" {
			return nil, false
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		kept, ok := look(name, value)
		switch {
		case !ok:
			return nil, false
		case !kept:
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

// cutField cuts the first field line off; name is empty if the line is not one that everybody reads alike.
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

// parseLength reads a Content-Length; known is what another one has said, negative if there was none.
func parseLength(s string, known int64) (n int64, ok bool) {
	if s == "" || len(s) > 15 || known >= 0 {
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
