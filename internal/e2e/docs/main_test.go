// Package docs tests that the documentation is correct: its commands work, and the links, files, tests and modules that
// it names exist. It also checks the import rules and runs the example orchestrator.
package docs

import (
	"os"
	"testing"

	"cbproxy/internal/e2e/harness"
)

func TestMain(m *testing.M) {
	os.Exit(harness.RunTests(m, harness.Role{Variable: shellVariable, Run: execShell}))
}
