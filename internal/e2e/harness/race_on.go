//go:build race

package harness

// BuildFlags build the proxy with the race detector when the tests use it.
var BuildFlags = []string{"-race"}
