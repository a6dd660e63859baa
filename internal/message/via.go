package message

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"cbproxy/internal/problem"
)

// Via is the proxy's entry in the Via field of the requests that it sends (RFC 9110, section 7.6.3). A request that contains it
// on arrival has passed through the proxy before. It is never modified.
type Via struct {
	name                  string   // a token
	http10, http11, http2 []string // the field's value by the version of the request that was received
}

// NewVia returns the entry of the instance with the given name. Characters that a token may not contain are replaced. An empty
// name means a random one.
func NewVia(instance string) *Via {
	name := strings.Map(func(c rune) rune {
		if !httpguts.IsTokenRune(c) {
			return '-'
		}
		return c
	}, instance)
	if name == "" {
		random := make([]byte, 8)
		_, _ = rand.Read(random) // never fails
		name = problem.ProxyName + "-" + hex.EncodeToString(random)
	}
	return &Via{name, []string{"1.0 " + name}, []string{"1.1 " + name}, []string{"2 " + name}}
}

// Add appends the entry to the header of the upstream request for r.
func (v *Via) Add(header http.Header, r *http.Request) {
	value := v.http11
	switch {
	case r.ProtoMajor > 1:
		value = v.http2
	case r.ProtoMinor == 0:
		value = v.http10
	}
	if before := header["Via"]; before != nil {
		value = append(slices.Clip(before), value...)
	}
	header["Via"] = value[:len(value):len(value)]
}

// AddOnce appends the entry unless it is the last one: a queued request may have been prepared by this instance before.
func (v *Via) AddOnce(header http.Header) {
	before := header["Via"]
	if len(before) == 0 || !strings.HasSuffix(before[len(before)-1], " "+v.name) {
		header["Via"] = append(slices.Clip(before), v.http11...)
	}
}

// Contains reports whether header has the entry.
func (v *Via) Contains(header http.Header) bool {
	for _, list := range header["Via"] {
		for hop := range strings.SplitSeq(list, ",") {
			if parts := strings.Fields(hop); len(parts) > 1 && strings.EqualFold(parts[1], v.name) {
				return true
			}
		}
	}
	return false
}
