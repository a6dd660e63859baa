package fallbacks

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// tidy returns what of an answer may go out: an error if its status makes no sense, and
// without the fields that a strategy may not set, or that are no fields. The length is that of
// the body, whatever the strategy says; an answer to HEAD that has none says nothing of it.
func tidy(a *Answer, method string) (*Answer, error) {
	if a.Status < 200 || a.Status > 599 {
		return nil, fmt.Errorf("status %d is not from 200 to 599", a.Status)
	}
	tidied := &Answer{Status: a.Status, Header: make(http.Header, len(a.Header)+1)}
	for name, values := range a.Header {
		canonical := http.CanonicalHeaderKey(name)
		if !httpguts.ValidHeaderFieldName(name) || reserved(canonical) {
			continue
		}
		if canonical == name && !slices.ContainsFunc(values, invalidValue) {
			tidied.Header[name] = values
			continue
		}
		for _, v := range values {
			if !invalidValue(v) {
				tidied.Header[canonical] = append(slices.Clip(tidied.Header[canonical]), v)
			}
		}
	}
	if !noBody(a.Status) {
		tidied.Body = a.Body
		if len(a.Body) > 0 || method != http.MethodHead {
			tidied.Header["Content-Length"] = []string{strconv.Itoa(len(a.Body))}
		}
		if tidied.Header["Content-Type"] == nil {
			tidied.Header["Content-Type"] = nil // or net/http guesses one
		}
	}
	return tidied, nil
}

func invalidValue(v string) bool { return !httpguts.ValidHeaderFieldValue(v) }

func noBody(status int) bool {
	return status == http.StatusNoContent || status == http.StatusNotModified
}

// reserved reports whether the proxy or the HTTP stack sets the field itself.
func reserved(name string) bool {
	switch name {
	case "Connection", "Content-Length", "Date", "Keep-Alive", "Proxy-Authenticate", "Proxy-Connection", "Proxy-Status", "Retry-After",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade", "X-Fallback", "X-Fallback-Reason":
		return true
	}
	return strings.HasPrefix(name, "X-Circuit-Breaker-")
}
