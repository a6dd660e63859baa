// Package queue tests that queued requests are delivered, over kills, full disks and failures of Redis.
package queue

import (
	"os"
	"testing"

	"cbproxy/internal/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.RunTests(m)) }
