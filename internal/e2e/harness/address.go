package harness

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// The ports that FreeAddress returns are below those that the kernel assigns to sockets which are not bound to one, so a port
// stays free between FreeAddress and its use. As several test binaries run at the same time, each uses a block of its own.
const (
	firstPort = 10_000
	blockSize = 1_000
	blocks    = 20
)

var (
	// firstOfBlock locks a block of ports for this process, and returns its first one.
	firstOfBlock = sync.OnceValues(lockBlock)
	blockLock    *os.File // kept open: its lock ends with the process
	lastPort     atomic.Int64
)

func lockBlock() (first int, err error) {
	for n := range blocks {
		name := filepath.Join(os.TempDir(), fmt.Sprintf("cbproxy-e2e-ports-%d.lock", n))
		if blockLock, err = os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600); err != nil {
			return 0, err
		}
		if err = syscall.Flock(int(blockLock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			return firstPort + n*blockSize, nil
		}
		_ = blockLock.Close()
	}
	return 0, fmt.Errorf("lock one of %d blocks of ports: %w", blocks, err)
}

// FreeAddress returns a loopback address whose TCP port is free. Calls of all test binaries return different addresses.
func FreeAddress(t testing.TB) string {
	t.Helper()
	first, err := firstOfBlock()
	if err != nil {
		t.Fatal(err)
	}
	for range blockSize {
		address := fmt.Sprintf("127.0.0.1:%d", first+int(lastPort.Add(1)%blockSize))
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}
