// Package fleet tests proxies that share breaker states through a real Redis, and restarts that restore a state.
package fleet

import (
	"os"
	"testing"

	"cbproxy/internal/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.RunTests(m)) }
