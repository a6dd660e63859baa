package message

import (
	"net/http"
	"net/url"
	"strings"
)

// RawPath returns the path of the request target as the client sent it.
func RawPath(r *http.Request) string {
	target, _, _ := strings.Cut(r.RequestURI, "?")
	if _, rest, ok := strings.Cut(target, "://"); ok && !strings.HasPrefix(target, "/") { // absolute-form
		if _, path, ok := strings.Cut(rest, "/"); ok {
			return "/" + path
		}
		return "/"
	}
	return target
}

// IsSafePath reports whether all servers read path alike: it has no dot segment, no NUL and no backslash, also after percent-
// decoding it once or twice, as some servers do.
func IsSafePath(path string) bool {
	for range 3 {
		if !isPlainPath(path) {
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
	return isPlainPath(path)
}

func isPlainPath(path string) bool {
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
