package proxy

import (
	"net/http"
	"slices"
)

// isLoop reports whether res is the response by which this kind of proxy reports a loop.
func isLoop(res *http.Response) bool {
	return res.StatusCode == http.StatusLoopDetected && slices.Equal(res.Header["Proxy-Status"], loopDetected.ProxyStatus())
}
