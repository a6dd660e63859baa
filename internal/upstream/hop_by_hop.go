package upstream

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// RemoveHopByHop deletes the hop-by-hop fields (RFC 9110, section 7.6.1) from the header of a request or a response:
// what Connection names, and what always is. It returns what Connection names, which RemoveHopByHopTrailers needs.
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

// hopByHop are the fields that are meant for one connection whether or not Connection names them.
var hopByHop = [...]string{"Connection", "Http2-Settings", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te",
	"Trailer", "Transfer-Encoding", "Upgrade"}

// RemoveHopByHopTrailers deletes the hop-by-hop fields from the trailers of a message. named is what the Connection field in
// its header names.
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

// FieldsConn is a connection of http.Transport that keeps what http.Transport deletes from the header section of a response:
// a Connection field that has the option close.
type FieldsConn interface {
	// ExpectResponse is called before a request is sent, on a connection that carries one at a time.
	ExpectResponse()
	// RestoreFields puts what was deleted from the final response's header back into it.
	RestoreFields(h http.Header)
}
