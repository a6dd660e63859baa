//go:build !race

package harness

// BuildFlags are the go build flags for the cbproxy binary. They are empty because the tests run without the race
// detector.
var BuildFlags []string
