package message

import (
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// RemoveOtherUpgrades removes all protocols but websocket from the Upgrade field of r: no other is forwarded, and a request
// that offers one is served as if it did not (RFC 9110, section 7.8).
func RemoveOtherUpgrades(r *http.Request) {
	delete(r.Header, "Http2-Settings") // is part of an upgrade to h2c
	offers := r.Header["Upgrade"]
	if offers == nil || IsWebSocket(offers) && isUpgrade(r) {
		return
	}
	delete(r.Header, "Upgrade")
	for _, list := range offers {
		for protocol := range strings.SplitSeq(list, ",") {
			if one := []string{strings.TrimSpace(protocol)}; IsWebSocket(one) && isUpgrade(r) {
				r.Header["Upgrade"] = one
			}
		}
	}
}

// isUpgrade reports whether r asks for an upgrade: its version has upgrades, and its Connection field names Upgrade.
func isUpgrade(r *http.Request) bool {
	return r.ProtoMajor == 1 && r.ProtoMinor > 0 && httpguts.HeaderValuesContainsToken(r.Header["Connection"], "upgrade")
}

// IsWebSocket reports whether websocket is the only protocol in the values of an Upgrade field.
func IsWebSocket(upgrade []string) bool {
	return len(upgrade) == 1 && strings.EqualFold(strings.TrimSpace(upgrade[0]), "websocket")
}
