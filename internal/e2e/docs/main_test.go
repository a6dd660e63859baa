// Package docs tests that the documentation is true: its commands are run, and the names in it exist.
package docs

import (
	"os"
	"testing"

	"cbproxy/internal/e2e/harness"
)

func TestMain(m *testing.M) {
	os.Exit(harness.RunTests(m, harness.Role{Variable: shellVariable, Run: func(string) error { return becomeShell() }}))
}
