package fallbacks

import (
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// cacheKey is a digest of a question. What is digested has each part's length before it, so
// that no two questions read the same however their parts are chosen.
type cacheKey [sha256.Size]byte

// The first byte of what is digested says which kind of key it is.
const (
	keyOfQuestion = 'q'
	keyOfVariant  = 'v'
)

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

// questionOf returns the key of what r asks, before any response's Vary. HEAD asks what GET
// does (RFC 9111, section 4).
func questionOf(r *Request, fields []string) cacheKey {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	var space [1 << 10]byte // on the stack, and enough for most
	b := append(space[:0], keyOfQuestion)
	b = appendPart(b, method)
	b = appendPart(b, r.Host)
	b = appendPart(b, r.Path)
	b = appendPart(b, r.Query)
	b = appendFields(b, fields, r.Header)
	digest := sha256.New()
	_, _ = digest.Write(b)      // which never fails
	_, _ = digest.Write(r.Body) // what is before it tells where it begins
	var k cacheKey
	digest.Sum(k[:0])
	return k
}

// with returns the key of the question together with h's fields of the given names, which are
// those in a response's Vary (RFC 9111, section 4.1).
func (k cacheKey) with(names []string, h http.Header) cacheKey {
	if len(names) == 0 {
		return k
	}
	var space [1 << 9]byte
	b := append(space[:0], keyOfVariant)
	b = append(b, k[:]...)
	return sha256.Sum256(appendFields(b, names, h))
}

func appendPart(b []byte, part string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(part))), part...)
}

func appendFields(b []byte, names []string, h http.Header) []byte {
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, name := range names {
		values := h[name]
		b = appendPart(b, name)
		b = binary.AppendUvarint(b, uint64(len(values)))
		for _, v := range values {
			b = appendPart(b, v)
		}
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
	slices.Sort(names)
	return slices.Compact(names), true
}
