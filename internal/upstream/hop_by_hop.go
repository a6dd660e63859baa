package upstream

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// RemoveHopByHop deletes the hop-by-hop fields (RFC 9110, section 7.6.1) from the header of a request or a response: those that
// Connection names and those in hopByHop. It returns the names in Connection for RemoveHopByHopTrailers.
func RemoveHopByHop(h http.Header) (named []string) {
	named = ConnectionOptions(h)
	for _, name := range named {
		delete(h, name)
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
	return named
}

// hopByHop are the fields that are hop-by-hop whether or not Connection names them.
var hopByHop = [...]string{"Connection", "Http2-Settings", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te",
	"Trailer", "Transfer-Encoding", "Upgrade"}

// RemoveHopByHopTrailers deletes the hop-by-hop fields from the trailers of a message. named are the names in the Connection
// field of its header.
func RemoveHopByHopTrailers(trailer http.Header, named []string) {
	for name := range trailer {
		if slices.Contains(hopByHop[:], name) || slices.Contains(named, name) {
			delete(trailer, name)
		}
	}
}

// ConnectionOptions returns the names in Connection in their canonical form.
func ConnectionOptions(h http.Header) (names []string) {
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			if name = textproto.TrimString(name); name != "" {
				names = append(names, textproto.CanonicalMIMEHeaderKey(name))
			}
		}
	}
	return names
}
