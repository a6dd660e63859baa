// Package harness starts and controls the processes of the end-to-end tests: the cbproxy binary, upstreams that can be
// killed, paused and restarted, request recorders and fleets of proxies. Its methods send requests and read the admin API.
//
// Its functions and methods fail the test that calls them on an error, so that tests need no error handling.
package harness

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// UpstreamVariable is the environment variable that makes the test binary run as an upstream. Its value is the listen
// address.
const UpstreamVariable = "CBPROXY_E2E_UPSTREAM"

// recordVariable is the environment variable that makes the test binary run as a recorder, which listens at the address
// in UpstreamVariable. Its value is the name of the file in which it records requests.
const recordVariable = "CBPROXY_E2E_RECORD"

// binaryVariable is the environment variable with the absolute path of a cbproxy that the tests start instead of building one.
// So several packages share one build.
const binaryVariable = "CBPROXY_TEST_BINARY"

// binary is the path of the cbproxy that the tests start.
var binary string

// Binary returns the path of the cbproxy that the tests start. It is to be called by tests only: a result of a test that calls it is
// cached by the go command only until any file of the repository changes.
func Binary() string {
	noteSources()
	return binary
}

// Role is a program that the test binary runs instead of the tests if the environment variable Variable is set. Run gets
// the variable's value. It returns only if it fails.
type Role struct {
	Variable string
	Run      func(value string) error
}

// RunTests builds cbproxy, unless binaryVariable is set, runs the tests of m and returns the exit status. TestMain of each
// package calls it. If the environment selects one of roles, the upstream or the recorder, RunTests runs that instead.
func RunTests(m *testing.M, roles ...Role) int {
	roles = append(roles, // the upstream last, as other roles use UpstreamVariable too
		Role{recordVariable, func(file string) error { return serveRecorder(os.Getenv(UpstreamVariable), file) }},
		Role{UpstreamVariable, serveUpstream})
	for _, r := range roles {
		if value := os.Getenv(r.Variable); value != "" {
			_ = os.Unsetenv(r.Variable)
			fmt.Fprintln(os.Stderr, r.Run(value))
			return 1
		}
	}
	if binary = os.Getenv(binaryVariable); binary != "" {
		return m.Run()
	}
	return buildAndRun(m)
}

// buildAndRun builds Binary in a temporary folder and runs the tests.
func buildAndRun(m *testing.M) int {
	folder, err := os.MkdirTemp("", "cbproxy-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	binary = filepath.Join(folder, "cbproxy")
	args := append([]string{"build", "-pgo=off"}, BuildFlags...)
	if os.Getenv("GOCOVERDIR") != "" { // the binary writes its coverage counters there
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

// noteSources reads the status of each file of the repository, once. The go command caches the results of tests, and takes what
// files a test looked at into account, but does not know that the tests start a binary that is built from the sources.
var noteSources = sync.OnceFunc(func() {
	_ = filepath.WalkDir(Repository, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "dist" || d.Name() == "e2e") {
			return filepath.SkipDir
		}
		_, err = os.Stat(path)
		return err
	})
})
