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

// runWithBinary builds the proxy, unless CBPROXY_TEST_BINARY has the path of one, and runs the tests.
func runWithBinary(m *testing.M) int {
	if binary = os.Getenv("CBPROXY_TEST_BINARY"); binary != "" {
		return m.Run()
	}
	folder, err := os.MkdirTemp("", "cbproxy-suites-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	binary = filepath.Join(folder, "cbproxy")
	build := exec.Command("go", append(append([]string{"build", "-pgo=off"}, buildFlags...), "-o", binary, "./cmd/cbproxy")...)
	build.Dir = "../.." // the main module
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build cbproxy:", err)
		return 1
	}
	return m.Run()
}

// waitTimeout limits every wait; it is long enough for a busy machine.
const waitTimeout = 30 * time.Second

// eventually waits until done returns true.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waitTimeout); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", waitTimeout, what)
		}
	}
}

// Ports for tests. They are below the kernel's ephemeral range, so that a free port stays free.
const firstPort, ports = 10_000, 20_000

// lastPort is the offset of the last port that was used. Each test binary starts at a random one.
var lastPort = func() *atomic.Int64 {
	n := new(atomic.Int64)
	n.Store(rand.Int64N(ports))
	return n
}()

// freeAddress returns a loopback address at which nothing listens, a different one in each call.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range ports {
		address := fmt.Sprintf("127.0.0.1:%d", firstPort+lastPort.Add(1)%ports)
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}
