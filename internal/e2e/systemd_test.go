package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The unit is one that systemd understands, and leaves the proxy little that it could do harm
// with: an exposure of 2 at most, of 10, as systemd itself rates it.
func TestSystemdUnitIsValidAndConfined(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		skipUnlessCI(t, "systemd-analyze", err)
	}
	content, err := os.ReadFile("../../deploy/cbproxy.service")
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), "cbproxy.service")
	text := strings.ReplaceAll(string(content), "/usr/local/bin/cbproxy", binary) // verify looks for what is to be started
	if err := os.WriteFile(unit, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", unit).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--threshold=20", "--no-pager", unit).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	for _, line := range []string{"ExecStart=" + binary + " run --config /etc/cbproxy/config.yaml", "DynamicUser=yes", "StateDirectory=cbproxy"} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
}
