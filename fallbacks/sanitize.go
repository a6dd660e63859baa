package fallbacks

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// sanitizeAnswer returns the part of a that may be sent: without fields that are invalid or that a
// strategy must not set, and with the Content-Length of the body. An answer to HEAD without a body
// gets no Content-Length. A Date is kept if it is valid: it is that of the response from which the
// answer was made. It returns an error if the status is invalid.
func sanitizeAnswer(a *Answer, method string) (*Answer, error) {
	if a.Status < 200 || a.Status > 599 {
		return nil, fmt.Errorf("status %d is not from 200 to 599", a.Status)
	}
	clean := &Answer{Status: a.Status, Header: make(http.Header, len(a.Header)+1)}
	for name, values := range a.Header {
		canonical := http.CanonicalHeaderKey(name)
		if !httpguts.ValidHeaderFieldName(name) || IsReservedField(canonical) {
			continue
		}
		if canonical == name && clean.Header[name] == nil && !slices.ContainsFunc(values, invalidValue) {
			clean.Header[name] = values
			continue
		}
		for _, v := range values {
			if !invalidValue(v) {
				clean.Header[canonical] = append(slices.Clip(clean.Header[canonical]), v)
			}
		}
	}
	if _, err := http.ParseTime(clean.Header.Get("Date")); err != nil || len(clean.Header["Date"]) > 1 {
		delete(clean.Header, "Date") // the server sets one
	}
	if BodyAllowed(a.Status) {
		clean.Body = a.Body
		if len(a.Body) > 0 || method != http.MethodHead {
			clean.Header["Content-Length"] = []string{strconv.Itoa(len(a.Body))}
		}
		if clean.Header["Content-Type"] == nil {
			clean.Header["Content-Type"] = nil // keeps net/http from detecting one
		}
	}
	return clean, nil
}

func invalidValue(v string) bool { return !httpguts.ValidHeaderFieldValue(v) }

// BodyAllowed reports whether responses with the status may have a body.
func BodyAllowed(status int) bool {
	return status != http.StatusNoContent && status != http.StatusNotModified
}

// IsReservedField reports whether strategies must not set the field with the given canonical name,
// because the proxy or net/http sets it.
func IsReservedField(name string) bool {
	switch name {
	case "Connection", "Content-Length", "Keep-Alive", "Proxy-Authenticate", "Proxy-Connection", "Proxy-Status", "Retry-After",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade", "X-Fallback", "X-Fallback-Reason":
		return true
	}
	return strings.HasPrefix(name, "X-Circuit-Breaker-")
}
