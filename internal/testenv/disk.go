package testenv

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// MountDisk mounts a file system of the given size, as in "16m", and returns its folder. It needs root, see
// SkipUnlessCI. The file system is unmounted at the end of the test.
func MountDisk(t testing.TB, size string) (folder string) {
	t.Helper()
	folder = t.TempDir()
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size="+size); err != nil {
		SkipUnlessCI(t, "mount a file system as root", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(folder, syscall.MNT_DETACH) })
	return folder
}

// FillDisk fills the file system of a folder of MountDisk. free makes the space available again.
func FillDisk(t testing.TB, folder string) (free func()) {
	t.Helper()
	path := filepath.Join(folder, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 64<<10))
	}
	return func() {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}
