package http1

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// appendRequest appends the encoded form of r, including the body.
func appendRequest(b []byte, r *http.Request) ([]byte, error) {
	target := r.URL.RequestURI()
	if !validTarget(target) || !httpguts.ValidHeaderFieldName(r.Method) { // methods and field names are tokens
		return b, fmt.Errorf("encode the request: invalid method %q or target %q", r.Method, target)
	}
	b = append(b, r.Method...)
	b = append(b, ' ')
	b = append(b, target...)
	host, err := hostOf(r)
	if err != nil {
		return b, err
	}
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, host...)
	b = append(b, "\r\n"...)
	if b, err = appendFields(b, r.Header); err != nil {
		return b, err
	}
	hasBody := r.Body != nil && r.Body != http.NoBody
	switch {
	case hasBody:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, r.ContentLength, 10)
		b = append(b, "\r\n"...)
	case r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch: // RFC 9110, section 8.6
		b = append(b, "Content-Length: 0\r\n"...)
	}
	b = append(b, "\r\n"...)
	if !hasBody {
		return b, nil
	}
	head := len(b)
	b = slices.Grow(b, int(r.ContentLength))[:head+int(r.ContentLength)]
	if _, err := io.ReadFull(r.Body, b[head:]); err != nil {
		return b[:head], fmt.Errorf("read the request's body: %w", err)
	}
	return b, nil
}

// hostOf returns the value of the Host field. It has no zone (RFC 6874, section 4). It is empty if the client has sent an
// invalid one.
func hostOf(r *http.Request) (string, error) {
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	host, err := httpguts.PunycodeHostPort(host)
	if err != nil {
		return "", fmt.Errorf("encode the request: host %q: %w", host, err)
	}
	if !httpguts.ValidHostHeader(host) {
		return "", nil
	}
	if start := strings.IndexByte(host, '%'); start > 0 && host[0] == '[' {
		if end := strings.LastIndexByte(host, ']'); end > start {
			host = host[:start] + host[end:]
		}
	}
	return host, nil
}

// validTarget reports whether a request target has neither control characters nor spaces.
func validTarget(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// appendFields appends the field lines of h, in no particular order.
func appendFields(b []byte, h http.Header) ([]byte, error) {
	for name, values := range h {
		switch name {
		case "Host", "Content-Length", "Transfer-Encoding", "Trailer": // are set by appendRequest or not sent
			continue
		case "User-Agent":
			if len(values) > 0 && values[0] == "" { // as in net/http, means no User-Agent
				continue
			}
			values = values[:min(1, len(values))]
		}
		if !httpguts.ValidHeaderFieldName(name) {
			return b, fmt.Errorf("encode the request: invalid field name %q", name)
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return b, fmt.Errorf("encode the request: invalid value of the field %s", name)
			}
			b = append(b, name...)
			b = append(b, ": "...)
			b = append(b, strings.Trim(v, " \t")...)
			b = append(b, "\r\n"...)
		}
	}
	return b, nil
}
