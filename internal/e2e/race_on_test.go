//go:build race

package e2e

// buildFlags make the proxy find its races when the tests look for theirs.
var buildFlags = []string{"-race"}
