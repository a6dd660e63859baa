//go:build race

package suites

// buildFlags make the proxy find its races when the tests look for theirs.
var buildFlags = []string{"-race"}
