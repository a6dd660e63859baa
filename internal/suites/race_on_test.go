//go:build race

package suites

// buildFlags build the proxy with the race detector if the tests have it.
var buildFlags = []string{"-race"}
