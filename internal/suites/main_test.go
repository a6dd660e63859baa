package suites

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// binary is the cbproxy that the tests start.
var binary string

func TestMain(m *testing.M) { os.Exit(runWithBinary(m)) }

func runWithBinary(m *testing.M) int {
	folder, err := os.MkdirTemp("", "cbproxy-suites-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	binary = filepath.Join(folder, "cbproxy")
	build := exec.Command("go", append(append([]string{"build", "-pgo=off"}, buildFlags...), "-o", binary, "./cmd/cbproxy")...)
	build.Dir = "../.." // cbproxy's own module
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build cbproxy:", err)
		return 1
	}
	return m.Run()
}

// patience bounds every wait: far more than anything takes, even on a busy machine.
const patience = 30 * time.Second

// eventually waits until done says so.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// Ports below those that the kernel gives to whoever asks for any: what is free there is still free a moment
// later. Each test binary begins somewhere else.
const firstPort, ports = 10_000, 20_000

var givenPorts = func() *atomic.Int64 {
	n := new(atomic.Int64)
	n.Store(rand.Int64N(ports))
	return n
}()

// freeAddress returns a loopback address that nobody listens on, and that no other call returns.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range ports {
		address := fmt.Sprintf("127.0.0.1:%d", firstPort+givenPorts.Add(1)%ports)
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}
