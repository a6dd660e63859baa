package proxy

import (
	"net/http"
	"slices"
)

// isLoop reports whether res says, in the words of this proxy, that its request has come back to a proxy.
func isLoop(res *http.Response) bool {
	return res.StatusCode == http.StatusLoopDetected && slices.Equal(res.Header["Proxy-Status"], loopDetected.ProxyStatus())
}
