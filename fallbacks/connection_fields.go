package fallbacks

import (
	"net/http"
	"net/textproto"
	"strings"
)

// RemoveConnectionFields deletes from the header of a request or a response what is meant for one
// connection alone (RFC 9110, section 7.6.1): what Connection names, and what always is.
func RemoveConnectionFields(h http.Header) {
	for _, name := range connectionOptions(h) {
		delete(h, name)
	}
	for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade"} {
		delete(h, name)
	}
}

// connectionOptions returns the names in Connection in their canonical form.
func connectionOptions(h http.Header) (names []string) {
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			if name = textproto.TrimString(name); name != "" {
				names = append(names, textproto.CanonicalMIMEHeaderKey(name))
			}
		}
	}
	return names
}
