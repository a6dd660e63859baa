// Package soak runs a fleet under random load and faults, and checks that its invariants hold.
package soak

import (
	"os"
	"testing"

	"cbproxy/internal/e2e/harness"
)

func TestMain(m *testing.M) {
	os.Exit(harness.RunTests(m, harness.Role{Variable: recordVariable, Run: func(file string) error {
		return serveUpstream(os.Getenv(harness.UpstreamVariable), file)
	}}))
}
