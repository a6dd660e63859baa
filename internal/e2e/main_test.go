package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// upstreamVariable makes the test binary an upstream that listens on the variable's value.
const upstreamVariable = "CBPROXY_E2E_UPSTREAM"

// recordVariable makes the test binary a recorder that listens on the value of upstreamVariable and records requests
// in the file of that name.
const recordVariable = "CBPROXY_E2E_RECORD"

// binary is the path of the cbproxy that the tests start.
var binary string

// role is a program that a test binary becomes, instead of running tests, if its environment has the variable. run
// gets the variable's value and does not return unless it fails.
type role struct {
	variable string
	run      func(value string) error
}

// runTests builds cbproxy and runs the tests of m, and returns the exit status. It is to be called by TestMain. If the
// environment selects one of the roles, or an upstream or a recorder, it becomes that instead.
func runTests(m *testing.M, roles ...role) int {
	roles = append(roles,
		role{recordVariable, func(file string) error { return serveRecorder(os.Getenv(upstreamVariable), file) }},
		role{upstreamVariable, serveUpstream})
	for _, r := range roles {
		if value := os.Getenv(r.variable); value != "" {
			_ = os.Unsetenv(r.variable)
			fmt.Fprintln(os.Stderr, r.run(value))
			return 1
		}
	}
	return runWithBinary(m)
}

func runWithBinary(m *testing.M) int {
	folder, err := os.MkdirTemp("", "cbproxy-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	binary = filepath.Join(folder, "cbproxy")
	args := append([]string{"build", "-pgo=off"}, buildFlags...)
	if os.Getenv("GOCOVERDIR") != "" { // the processes that the tests start write their coverage there
		args = append(args, "-cover", "-covermode=atomic", "-coverpkg=cbproxy/...")
	}
	build := exec.Command("go", append(args, "-o", binary, "cbproxy/cmd/cbproxy")...)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build cbproxy:", err)
		return 1
	}
	return m.Run()
}

// patience bounds every wait: far more than anything takes, even on a busy machine.
const patience = 20 * time.Second

// eventually waits until done says so.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// skipUnlessCI skips a test for what the machine can't do, which CI's must.
func skipUnlessCI(t testing.TB, what string, err error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s: %v", what, err)
	}
	t.Skipf("%s: %v", what, err)
}

// smallDisk returns the folder of a disk of the given size.
func smallDisk(t testing.TB, size string) string {
	t.Helper()
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size="+size); err != nil {
		skipUnlessCI(t, "mount a small disk, as root can", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	return disk
}
