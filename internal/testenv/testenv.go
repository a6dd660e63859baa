// Package testenv gives tests what they need of the machine, and skips those that need what it does not have.
package testenv

import (
	"os"
	"testing"
)

// SkipUnlessCI skips a test because of an error in preparing requirement, which this machine does not provide. It fails the test in CI,
// where every requirement must be met.
func SkipUnlessCI(t testing.TB, requirement string, err error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s: %v", requirement, err)
	} else {
		t.Skipf("%s: %v", requirement, err)
	}
}
