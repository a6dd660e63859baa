package proxy

import (
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"

	"cbproxy/internal/problem"
	"cbproxy/routes"
)

// turnAway returns the problem with a request that may not reach any upstream, nil if
// there is none. path is the request's raw path.
func turnAway(r *http.Request, path string, limits routes.Limits) *problem.Problem {
	switch {
	case r.Method == http.MethodConnect:
		return connectRefused
	case headerBytes(r) > int(limits.HeaderBytes) && limits.HeaderBytes > 0:
		return problem.HeadersTooLarge
	case strings.IndexByte(path, '#') >= 0, !safePath(path):
		return badPath
	}
	return nil
}

// rawPath returns the path of the request target as the client wrote it.
func rawPath(r *http.Request) string {
	target, _, _ := strings.Cut(r.RequestURI, "?")
	if _, rest, ok := strings.Cut(target, "://"); ok && !strings.HasPrefix(target, "/") { // absolute-form
		if _, path, ok := strings.Cut(rest, "/"); ok {
			return "/" + path
		}
		return "/"
	}
	return target
}

// headerBytes is the size of the request line and the header section on an HTTP/1 wire.
func headerBytes(r *http.Request) int {
	n := len(r.Method) + len(r.RequestURI) + len(" HTTP/1.1\r\n ") + len("Host: \r\n") + len(r.Host)
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + len(": \r\n") + len(v)
		}
	}
	return n
}

// safePath reports whether path means the same to every reader: no segment that walks the
// tree, nothing that some servers read as a slash or as an end. Encoding does not help, not
// even twice, because some upstreams decode twice.
func safePath(path string) bool {
	for range 3 {
		if !plainPath(path) {
			return false
		}
		if strings.IndexByte(path, '%') < 0 {
			return true
		}
		decoded, err := url.PathUnescape(path)
		if err != nil {
			return true // only after the first round, as net/http has parsed the target
		}
		path = decoded
	}
	return plainPath(path)
}

func plainPath(path string) bool {
	if strings.IndexByte(path, 0) >= 0 || strings.IndexByte(path, '\\') >= 0 {
		return false
	}
	if !strings.Contains(path, "/.") {
		return true
	}
	for segment := range strings.SplitSeq(path, "/") {
		segment, _, _ = strings.Cut(segment, ";") // a parameter hides the dots from some readers
		if segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

// limitUpgrade removes from r what it offers to switch to, except for websocket: no other protocol may pass, and a request that
// offers one is served as if it did not (RFC 9110, section 7.8). Of a list that has websocket among others, websocket is left.
func limitUpgrade(r *http.Request) {
	delete(r.Header, "Http2-Settings") // which belongs to an offer of h2c
	offers := r.Header["Upgrade"]
	if offers == nil || isWebSocket(offers) && isUpgrade(r) {
		return
	}
	delete(r.Header, "Upgrade")
	for _, list := range offers {
		for protocol := range strings.SplitSeq(list, ",") {
			if one := []string{strings.TrimSpace(protocol)}; isWebSocket(one) && isUpgrade(r) {
				r.Header["Upgrade"] = one
			}
		}
	}
}

// isUpgrade reports whether r is of a version that knows upgrades, and says that its Upgrade field is for the proxy.
func isUpgrade(r *http.Request) bool {
	return r.ProtoMajor == 1 && r.ProtoMinor > 0 && httpguts.HeaderValuesContainsToken(r.Header["Connection"], "upgrade")
}

func isWebSocket(upgrade []string) bool {
	return len(upgrade) == 1 && strings.EqualFold(strings.TrimSpace(upgrade[0]), "websocket")
}
