//go:build !race

package harness

// BuildFlags are flags of go build for the proxy: none, as the tests run without the race detector.
var BuildFlags []string
