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

// Arrived reports whether the body of a request that a Server has read is there, so that no read of it waits.
func Arrived(body io.ReadCloser) bool {
	_, ok := body.(*arrived)
	return ok
}

// plainMethods are those whose requests are plain.
var plainMethods = map[string]bool{"GET": true, "HEAD": true, "POST": true, "PUT": true, "PATCH": true, "DELETE": true, "OPTIONS": true}

var crlf, emptyLine = []byte("\r\n"), []byte("\r\n\r\n")

// parse returns the request that b is, nil if b is not exactly one, or not plain: every octet must be one that
// all recipients understand alike. It says what http.ReadRequest would. Its body stays in b.
func parse(b []byte) *http.Request {
	end := bytes.Index(b, emptyLine)
	if end < 0 {
		return nil
	}
	head, body := string(b[:end+len(crlf)]), b[end+len(emptyLine):]
	line, fields, _ := strings.Cut(head, "\r\n")
	method, rest, _ := strings.Cut(line, " ")
	target, version, _ := strings.Cut(rest, " ")
	if version != "HTTP/1.1" || !plainMethods[method] || !isPlainTarget(target) {
		return nil
	}
	r := &http.Request{
		Method: method, RequestURI: target, Proto: version, ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody,
	}
	var err error
	if r.URL, err = url.ParseRequestURI(target); err != nil {
		return nil
	}
	length, ok := parseFields(r, fields)
	if !ok || length != len(body) {
		return nil
	}
	if length > 0 {
		r.ContentLength, r.Body = int64(length), &arrived{body}
	}
	return r
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

// parseFields sets r's Header and Host, and returns what Content-Length says.
func parseFields(r *http.Request, fields string) (length int, ok bool) {
	n := strings.Count(fields, "\n")
	r.Header = make(http.Header, n)
	values := make([]string, n)
	sized := false
	for len(fields) > 0 {
		name, value, rest := cutField(fields)
		if name == "" {
			return 0, false
		}
		fields = rest
		switch name = textproto.CanonicalMIMEHeaderKey(name); name {
		case "Host":
			if r.Host != "" || value == "" || !httpguts.ValidHostHeader(value) {
				return 0, false
			}
			r.Host = value
			continue
		case "Content-Length":
			if length, ok = parseLength(value); !ok || sized {
				return 0, false
			}
			sized = true
		case "Connection":
			if !strings.EqualFold(value, "keep-alive") {
				return 0, false
			}
		case "Transfer-Encoding", "Upgrade", "Expect", "Trailer", "Te", "Pragma":
			return 0, false
		}
		if old := r.Header[name]; old != nil {
			r.Header[name] = append(old, value)
			continue
		}
		values[0] = value
		r.Header[name], values = values[:1:1], values[1:]
	}
	return length, r.Host != ""
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

// parseLength reads a Content-Length of at most readSize.
func parseLength(s string) (n int, ok bool) {
	if s == "" || len(s) > 4 {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = 10*n + int(s[i]-'0')
	}
	return n, true
}
