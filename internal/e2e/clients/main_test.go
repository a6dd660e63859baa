// Package clients tests clients in other languages with the real proxy and upstreams that fail.
package clients

import (
	"os"
	"testing"

	"cbproxy/internal/e2e/harness"
)

func TestMain(m *testing.M) {
	os.Exit(harness.RunTests(m, harness.Role{Variable: streamVariable, Run: func(string) error {
		return serveStreams(os.Getenv(harness.UpstreamVariable))
	}}))
}
