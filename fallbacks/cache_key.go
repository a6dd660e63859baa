package fallbacks

import (
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// wholeBody is the length of the longest request body that is part of a key as it is. Of a
// longer one that is a digest.
const wholeBody = 1 << 10

// questionFields returns the names of the request fields that are part of a question: those in
// vary and, as credentials must never be shared, Cookie and Proxy-Authorization.
func questionFields(vary []string) []string {
	names := []string{"Cookie", "Proxy-Authorization"}
	for _, name := range vary {
		names = append(names, http.CanonicalHeaderKey(name))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// appendQuestion appends the key of what r asks, before any response's Vary. Each part tells
// where it ends, so that no two questions read the same however their parts are chosen, and none
// is the beginning of another. HEAD asks what GET does (RFC 9111, section 4).
func appendQuestion(b []byte, r *Request, fields []string) []byte {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	b = appendPart(b, method)
	b = appendPart(b, r.Host)
	b = appendPart(b, r.Path)
	b = appendQuery(b, r)
	b = appendFields(b, fields, r.Header)
	b = binary.AppendUvarint(b, uint64(len(r.Body)))
	if len(r.Body) <= wholeBody {
		return append(b, r.Body...)
	}
	digest := sha256.Sum256(r.Body)
	return append(b, digest[:]...)
}

// appendVariant makes a question's key that of the question together with h's fields of the given
// names, which are those in a response's Vary (RFC 9111, section 4.1).
func appendVariant(b []byte, names []string, h http.Header) []byte {
	if len(names) == 0 {
		return b
	}
	return appendFields(b, names, h)
}

func appendPart(b []byte, part string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(part))), part...)
}

// appendQuery appends the query with its question mark, if the target has one.
func appendQuery(b []byte, r *Request) []byte {
	if r.Query == "" && !r.EmptyQuery {
		return appendPart(b, "")
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
	b = appendPart(b, name)
	b = binary.AppendUvarint(b, uint64(len(values)))
	for _, v := range values {
		b = appendPart(b, v)
	}
	return b
}

// varyNames returns the names in h's Vary in an order of their own; ok is false if it has an
// asterisk, which no request matches, or what is no name.
func varyNames(h http.Header) (names []string, ok bool) {
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
