//go:build race

package e2e

// buildFlags build the proxy with the race detector when the tests use it.
var buildFlags = []string{"-race"}
