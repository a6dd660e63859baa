package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
)

// FreeAddress returns ports below the range from which the kernel assigns ports to sockets without a port, so that a port
// stays free between FreeAddress and its use.
const firstPort, ports = 10_000, 20_000

// lastPort is the offset of the last port that FreeAddress returned. It begins at a random port, because several test
// binaries run at the same time.
var lastPort = func() *atomic.Int64 {
	n := new(atomic.Int64)
	n.Store(rand.Int64N(ports))
	return n
}()

// FreeAddress returns a loopback address whose TCP port is free. Calls in the same process return different addresses.
func FreeAddress(t testing.TB) string {
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
