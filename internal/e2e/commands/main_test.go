// Package commands tests the command line, the demo and the systemd unit with the real binary. Tests that run commands
// and check exit statuses and output are scripts, in testdata/script.
package commands

import (
	"os"
	"testing"

	"cbproxy/internal/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.RunTests(m)) }
