package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"cbproxy/fallbacks"
)

// maxKeyBody is the length in bytes of the longest request body that is part of a key as it is. Of
// a longer body the key has a digest.
const maxKeyBody = 1 << 10

// keyFields returns the canonical names of the request fields in primary keys: those in vary, and those
// for credentials. Callers with different credentials never share a response, whatever vary has: a
// response to a request with Authorization must not be used for others (RFC 9111, section 3.5).
func keyFields(vary []string) []string {
	names := []string{"Authorization", "Cookie", "Proxy-Authorization"}
	for _, name := range vary {
		names = append(names, http.CanonicalHeaderKey(name))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// appendPrimaryKey appends r's primary cache key (RFC 9111, section 2), which does not depend on a
// response's Vary. Each part is preceded by its length: different requests have different keys, and
// no key is a prefix of another. HEAD has the key of GET (section 4).
func appendPrimaryKey(b []byte, r *fallbacks.Request, fields []string) []byte {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	b = appendString(b, method)
	b = appendString(b, r.Host)
	b = appendString(b, r.Path)
	b = appendString(b, r.Rest) // on the service's own listener, the same path can be another resource than below its prefix
	b = appendQuery(b, r)
	b = appendFields(b, fields, r.Header)
	b = binary.AppendUvarint(b, uint64(len(r.Body)))
	if len(r.Body) <= maxKeyBody {
		return append(b, r.Body...)
	}
	digest := sha256.Sum256(r.Body)
	return append(b, digest[:]...)
}

// appendVaryKey appends the fields of h with the given names, those in a response's Vary (RFC 9111,
// section 4.1).
func appendVaryKey(b []byte, names []string, h http.Header) []byte {
	if len(names) == 0 {
		return b
	}
	return appendFields(b, names, h)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendQuery appends the query with its question mark, if the target has one.
func appendQuery(b []byte, r *fallbacks.Request) []byte {
	if r.Query == "" && !r.EmptyQuery {
		return appendString(b, "")
	}
	return append(append(binary.AppendUvarint(b, uint64(len(r.Query)+1)), '?'), r.Query...)
}

func appendFields(b []byte, names []string, h http.Header) []byte {
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, name := range names {
		b = appendField(b, name, h[name])
	}
	return b
}

func appendField(b []byte, name string, values []string) []byte {
	b = appendString(b, name)
	b = binary.AppendUvarint(b, uint64(len(values)))
	for _, v := range values {
		b = appendString(b, v)
	}
	return b
}

// parseVary returns the canonical names in h's Vary, sorted. ok is false if Vary has an asterisk,
// which matches no request, or an invalid name.
func parseVary(h http.Header) (names []string, ok bool) {
	for _, line := range h["Vary"] {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.Trim(name, " \t")
			switch {
			case name == "":
			case name == "*" || !httpguts.ValidHeaderFieldName(name):
				return nil, false
			default:
				names = append(names, http.CanonicalHeaderKey(name))
			}
		}
	}
	if len(names) > 1 {
		slices.Sort(names)
		names = slices.Compact(names)
	}
	return names, true
}
