package fleet

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cbproxy/internal/e2e/harness"
	"cbproxy/internal/testenv"
)

// TestUnwritableDataDirIsReported checks the error in a container with a read-only root file system and without a volume:
// it names the folder at which a volume can be mounted, and how to do without one.
func TestUnwritableDataDirIsReported(t *testing.T) {
	t.Parallel()
	disk := testenv.MountDisk(t, "1m")
	if err := syscall.Mount("", disk, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config.yaml")
	for _, folder := range []string{disk, filepath.Join(disk, "state", "cbproxy-data")} {
		text := fmt.Sprintf("listen: 127.0.0.1:0\nadmin: {listen: 127.0.0.1:0}\ndata_dir: %q\n%s", folder, harness.DeadUpstreamConfig)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		status, _, out := harness.RunCommand(t, "run", "--config", file)
		want := fmt.Sprintf("user %d cannot write to %s: mount a writable volume there, set another folder, or set data_dir: \"\" to keep everything in memory", os.Geteuid(), disk)
		if status != 1 || !strings.Contains(out, fmt.Sprintf("data_dir %q", folder)) || !strings.Contains(out, want) {
			t.Errorf("data_dir %s: exit status %d: %s", folder, status, out)
		}
	}
}
