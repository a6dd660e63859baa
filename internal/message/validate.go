package message

import (
	"net/http"
	"strings"

	"cbproxy/internal/problem"
)

// Validate returns why a request must not be sent to any upstream, nil if it may. path is its RawPath, headerBytes the limit of its
// HeaderSize; 0 is no limit.
func Validate(r *http.Request, path string, headerBytes int) *problem.Problem {
	switch {
	case r.Method == http.MethodConnect:
		return problem.ConnectRefused
	case headerBytes > 0 && HeaderSize(r) > headerBytes:
		return problem.HeadersTooLarge
	case strings.IndexByte(path, '#') >= 0, !IsSafePath(path):
		return problem.BadPath
	}
	return nil
}
