package proxy

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"cbproxy/internal/problem"
)

// via is what the proxy adds to the Via field of each request that it sends (RFC 9110, section 7.6.3). A request that has it
// already has passed through the proxy before. It is never modified.
type via struct {
	name                  string   // a token
	http10, http11, http2 []string // the field's value by the version of the request that was received
}

// newVia returns the via of the instance with the given name. Characters that no token has are replaced. An empty name stands
// for a random one.
func newVia(instance string) *via {
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
	return &via{name, []string{"1.0 " + name}, []string{"1.1 " + name}, []string{"2 " + name}}
}

// add adds the proxy to the Via field in the header of the request that is sent for r.
func (v *via) add(header http.Header, r *http.Request) {
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

// addOnce is add for a request that may have been prepared by this instance before, and waited.
func (v *via) addOnce(header http.Header) {
	before := header["Via"]
	if len(before) == 0 || !strings.HasSuffix(before[len(before)-1], " "+v.name) {
		header["Via"] = append(slices.Clip(before), v.http11...)
	}
}

// passed reports whether a request with the given header has passed through the proxy before.
func (v *via) passed(header http.Header) bool {
	for _, list := range header["Via"] {
		for hop := range strings.SplitSeq(list, ",") {
			if parts := strings.Fields(hop); len(parts) > 1 && strings.EqualFold(parts[1], v.name) {
				return true
			}
		}
	}
	return false
}

// isLoop reports whether res says, in the words of this proxy, that its request has come back to a proxy.
func isLoop(res *http.Response) bool {
	return res.StatusCode == http.StatusLoopDetected && slices.Equal(res.Header["Proxy-Status"], loopDetected.ProxyStatus())
}
