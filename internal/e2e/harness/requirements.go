package harness

import (
	"os"
	"syscall"
	"testing"
)

// SkipUnlessCI skips a test because of an error in preparing requirement, which this machine does not provide. It fails
// the test in CI, where every requirement must be met.
func SkipUnlessCI(t testing.TB, requirement string, err error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s: %v", requirement, err)
	}
	t.Skipf("%s: %v", requirement, err)
}

// MountTmpfs mounts a file system of the given size, as in "16m", and returns its folder. It needs root: without it the
// test is skipped. The file system is unmounted at the end of the test.
func MountTmpfs(t testing.TB, size string) string {
	t.Helper()
	folder := t.TempDir()
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size="+size); err != nil {
		SkipUnlessCI(t, "mount tmpfs as root", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(folder, syscall.MNT_DETACH) })
	return folder
}
