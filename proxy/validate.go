package proxy

import (
	"net/http"
	"strings"

	"cbproxy/internal/message"
	"cbproxy/internal/problem"
	"cbproxy/routes"
)

// validateRequest returns why a request must not be sent to any upstream, nil if it may. path is the request's raw path.
func validateRequest(r *http.Request, path string, limits routes.Limits) *problem.Problem {
	switch {
	case r.Method == http.MethodConnect:
		return connectRefused
	case message.HeaderSize(r) > int(limits.HeaderBytes) && limits.HeaderBytes > 0:
		return problem.HeadersTooLarge
	case strings.IndexByte(path, '#') >= 0, !message.IsSafePath(path):
		return badPath
	}
	return nil
}
