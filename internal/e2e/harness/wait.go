package harness

import (
	"testing"
	"time"
)

// EventTimeout limits each wait of the tests. It only ends a test that fails, so it is far longer than any event takes, even on a busy
// machine.
const EventTimeout = time.Minute

// Eventually polls condition until it returns true. It fails the test after EventTimeout; description states the
// condition in the failure message.
func Eventually(t testing.TB, description string, condition func() bool) {
	t.Helper()
	EventuallyWithin(t, EventTimeout, description, condition)
}

// EventuallyWithin is Eventually with another limit.
func EventuallyWithin(t testing.TB, limit time.Duration, description string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, description)
		}
	}
}
