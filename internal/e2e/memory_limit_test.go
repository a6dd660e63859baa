package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// memoryGroup creates a cgroup with a memory limit in bytes, as a child of the test's cgroup. It returns its folder.
func memoryGroup(t *testing.T, limit int) string {
	t.Helper()
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(own)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		parent, file := "", ""
		switch {
		case len(f) != 3:
		case f[1] == "memory":
			parent, file = filepath.Join("/sys/fs/cgroup/memory", f[2]), "memory.limit_in_bytes"
		case f[0] == "0":
			parent, file = filepath.Join("/sys/fs/cgroup", f[2]), "memory.max"
		}
		group := filepath.Join(parent, fmt.Sprintf("cbproxy-e2e-%d", os.Getpid()))
		if parent == "" || os.Mkdir(group, 0o755) != nil {
			continue
		}
		t.Cleanup(func() { _ = os.Remove(group) }) // fails while a process is in the group
		if os.WriteFile(filepath.Join(group, file), []byte(fmt.Sprint(limit)), 0o600) == nil {
			return group
		}
	}
	t.Skip("cannot create a cgroup with a memory limit")
	return ""
}

// TestMemoryLimitFollowsCgroup checks that Go's memory limit is 90 % of the cgroup's, so that the garbage collector runs
// more often before the kernel kills the process, unless GOMEMLIMIT is set.
func TestMemoryLimitFollowsCgroup(t *testing.T) {
	const limit = 256 << 20
	group := memoryGroup(t, limit)
	for configured, want := range map[string]float64{"": limit / 10 * 9, "100MiB": 100 << 20} {
		t.Run("GOMEMLIMIT="+configured, func(t *testing.T) {
			data, admin := harness.FreeAddress(t), harness.FreeAddress(t)
			file := filepath.Join(t.TempDir(), "config.yaml")
			config := fmt.Sprintf("listen: %s\nadmin: {listen: %s}\ndata_dir: ''\nroutes: {rag_service: {upstream: 'http://127.0.0.1:9'}}\n", data, admin)
			if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
			command := exec.Command("sh", "-c", `echo $$ >"$1/cgroup.procs" && exec "$2" run --config "$3"`, "sh", group, harness.Binary(), file)
			command.Env = harness.WithoutConfiguration(os.Environ())
			if configured != "" {
				command.Env = append(command.Env, "GOMEMLIMIT="+configured)
			}
			log := new(harness.LogBuffer)
			command.Stderr = log
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = command.Process.Kill()
				_ = command.Wait()
			}()
			var got float64
			harness.Eventually(t, "the metrics are available", func() bool {
				res, err := http.Get("http://" + admin + "/metrics")
				if err != nil {
					return false
				}
				got = harness.ParseSeries(harness.ReadResponse(t, res, err).Body)["go_gc_gomemlimit_bytes"]
				return true
			})
			if got < want-10 || got > want+10 {
				t.Errorf("the limit is %.0f, want %.0f:\n%s", got, want, log)
			}
		})
	}
}
