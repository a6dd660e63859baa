package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// UpstreamVariable makes the test binary an upstream that listens on the variable's value.
const UpstreamVariable = "CBPROXY_E2E_UPSTREAM"

// recordVariable makes the test binary a recorder that listens on the value of UpstreamVariable and records requests
// in the file of that name.
const recordVariable = "CBPROXY_E2E_RECORD"

// Binary is the path of the cbproxy that the tests start.
var Binary string

// Role is a program that a test binary becomes, instead of running tests, if its environment has the variable. run
// gets the variable's value and does not return unless it fails.
type Role struct {
	Variable string
	Run      func(value string) error
}

// RunTests builds cbproxy and runs the tests of m, and returns the exit status. It is to be called by TestMain. If the
// environment selects one of the roles, or an upstream or a recorder, it becomes that instead.
func RunTests(m *testing.M, roles ...Role) int {
	roles = append(roles,
		Role{recordVariable, func(file string) error { return serveRecorder(os.Getenv(UpstreamVariable), file) }},
		Role{UpstreamVariable, serveUpstream})
	for _, r := range roles {
		if value := os.Getenv(r.Variable); value != "" {
			_ = os.Unsetenv(r.Variable)
			fmt.Fprintln(os.Stderr, r.Run(value))
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
	Binary = filepath.Join(folder, "cbproxy")
	args := append([]string{"build", "-pgo=off"}, BuildFlags...)
	if os.Getenv("GOCOVERDIR") != "" { // the processes that the tests start write their coverage there
		args = append(args, "-cover", "-covermode=atomic", "-coverpkg=cbproxy/...")
	}
	build := exec.Command("go", append(args, "-o", Binary, "cbproxy/cmd/cbproxy")...)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build cbproxy:", err)
		return 1
	}
	return m.Run()
}

// EventTimeout bounds every wait: far more than anything takes, even on a busy machine.
const EventTimeout = 20 * time.Second

// Eventually waits until done says so.
func Eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(EventTimeout); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", EventTimeout, what)
		}
	}
}

// SkipUnlessCI skips a test for what the machine can't do, which CI's must.
func SkipUnlessCI(t testing.TB, what string, err error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s: %v", what, err)
	}
	t.Skipf("%s: %v", what, err)
}

// SmallDisk returns the folder of a disk of the given size.
func SmallDisk(t testing.TB, size string) string {
	t.Helper()
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size="+size); err != nil {
		SkipUnlessCI(t, "mount a small disk, as root can", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	return disk
}
