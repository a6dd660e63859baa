// Package queue tests that queued requests are delivered in spite of killed processes, full disks and Redis faults.
package queue

import (
	"os"
	"testing"

	"cbproxy/internal/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.RunTests(m)) }
