// Package endpoints tests services with several endpoints: the real proxy in front of servers that fail, die, hang, come back, and are
// added and removed.
package endpoints

import (
	"os"
	"testing"

	"cbproxy/internal/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.RunTests(m)) }
