package proxy

import (
	"net/http"
	"net/url"
	"strings"

	"cbproxy/routes"
)

// turnAway returns the problem with a request that may not reach any upstream, nil if
// there is none. path is the request's raw path.
func turnAway(r *http.Request, path string, limits routes.Limits) *problem {
	switch {
	case r.Method == http.MethodConnect:
		return connectRefused
	case headerBytes(r) > int(limits.HeaderBytes) && limits.HeaderBytes > 0:
		return headersTooLarge
	case strings.IndexByte(path, '#') >= 0, !safePath(path):
		return badPath
	}
	if upgrade := r.Header["Upgrade"]; upgrade != nil && !isWebSocket(upgrade) {
		return badUpgrade
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

func isWebSocket(upgrade []string) bool {
	return len(upgrade) == 1 && strings.EqualFold(strings.TrimSpace(upgrade[0]), "websocket")
}
