// Package fleet tests proxies that share a real Redis, and state over restarts.
package fleet

import (
	"os"
	"testing"

	"cbproxy/internal/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.RunTests(m)) }
