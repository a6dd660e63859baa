package sse

import (
	"net/http"
	"strings"
)

// HasContentType reports whether h is the header of a stream of server-sent events.
func HasContentType(h http.Header) bool {
	const mediaType = "text/event-stream"
	t := h.Get("Content-Type")
	if len(t) < len(mediaType) || !strings.EqualFold(t[:len(mediaType)], mediaType) {
		return false
	}
	rest := strings.TrimLeft(t[len(mediaType):], " \t")
	return rest == "" || rest[0] == ';'
}
