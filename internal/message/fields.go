package message

import (
	"net"
	"net/http"
	"strings"
)

// IsProxyField reports whether a request field is set or removed by the proxy, so that a client's own must not go upstream. A
// spelling with underscores counts: CGI and WSGI read it as the one with hyphens.
func IsProxyField(name string) bool {
	if strings.IndexByte(name, '_') >= 0 {
		name = http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
	}
	switch name[0] {
	case 'F':
		return name == "Forwarded"
	case 'P':
		return name == "Proxy-Status"
	case 'X':
		return strings.HasPrefix(name, "X-Forwarded-") || name == "X-Forwarded" || name == "X-Real-Ip" || isProxyResponseField(name)
	}
	return false
}

// FallbackTestField is the name of the request field by which a client asks for a test of a route's fallback.
const FallbackTestField = "X-Fallback-Test"

// AsksForFallbackTest reports whether a request with the header h asks for a test of the fallback: by one field, with the value 1.
func AsksForFallbackTest(h http.Header) bool {
	values := h[FallbackTestField]
	return len(values) == 1 && values[0] == "1"
}

// isProxyResponseField reports whether a canonical field name is one of the proxy's own response fields.
func isProxyResponseField(name string) bool {
	return strings.HasPrefix(name, "X-Circuit-Breaker-") || name == "X-Fallback" || name == "X-Fallback-Reason"
}

// RemoveProxyResponseFields deletes an upstream's fields that have the names of the proxy's own response fields.
func RemoveProxyResponseFields(h http.Header) {
	for name := range h {
		if name == "Proxy-Status" || isProxyResponseField(name) {
			delete(h, name)
		}
	}
}

// SetForwarded sets the X-Forwarded fields of an upstream request to the client of in. prefix is the part of its path that is not sent
// upstream, "" if all is.
func SetForwarded(out http.Header, in *http.Request, prefix string) {
	values := []string{in.Host, "", prefix}
	if prefix != "" {
		out["X-Forwarded-Prefix"] = values[2:3:3]
	}
	if host, _, err := net.SplitHostPort(in.RemoteAddr); err == nil {
		values[1] = host
		out["X-Forwarded-For"] = values[1:2:2]
	}
	out["X-Forwarded-Host"], out["X-Forwarded-Proto"] = values[0:1:1], withoutTLS
}

// withoutTLS is the protocol of all clients.
var withoutTLS = []string{"http"}
