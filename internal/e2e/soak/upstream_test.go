package soak

import (
	"os"
	"path/filepath"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// recordVariable is the environment variable that makes the test binary run as an upstream of the soak test. Its value is
// the name of the file in which it records requests.
const recordVariable = "CBPROXY_E2E_SOAK"

// idField is the header field that identifies a request and its response.
const idField = "X-Soak-Id"

// The modes of an upstream select its response to each request.
const (
	modeHealthy = ""
	modeErrors  = "errors"  // status 500
	modeCut     = "cut"     // half a response
	modeReset   = "reset"   // no response
	modeGarbage = "garbage" // a malformed response
	modeSlow    = "slow"    // a delayed response
	modeMixed   = "mixed"   // a random mode for each request
)

var faultModes = []string{modeErrors, modeCut, modeReset, modeGarbage, modeSlow, modeMixed}

// upstream is an upstream process of the soak test. Its mode is in a file, so that it remains in force after a restart.
type upstream struct {
	*harness.Upstream
	file      string // of the record
	bytesRead int64  // length of the part of the record that requestLog has read
}

func startUpstream(t testing.TB) *upstream {
	t.Helper()
	u := &upstream{Upstream: &harness.Upstream{T: t, Address: harness.FreeAddress(t)}, file: filepath.Join(t.TempDir(), "record")}
	u.Env = []string{recordVariable + "=" + u.file}
	u.Start()
	t.Cleanup(u.Kill)
	return u
}

// modeFile returns the name of the file that has the mode of an upstream.
func modeFile(recordFile string) string { return recordFile + ".mode" }

func (u *upstream) setMode(mode string) {
	u.T.Helper()
	replacement := modeFile(u.file) + ".new"
	if err := os.WriteFile(replacement, []byte(mode), 0o600); err != nil {
		u.T.Fatal(err)
	}
	if err := os.Rename(replacement, modeFile(u.file)); err != nil {
		u.T.Fatal(err)
	}
}
