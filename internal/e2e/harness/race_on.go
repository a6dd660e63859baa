//go:build race

package harness

// BuildFlags are the go build flags for the cbproxy binary. They enable the race detector, as the tests use it.
var BuildFlags = []string{"-race"}
