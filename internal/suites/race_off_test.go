//go:build !race

package suites

var buildFlags []string
