package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
)

// The range of ports that FreeAddress returns. The kernel assigns higher ports to sockets that are not bound to one, so
// that a port stays free between FreeAddress and its use.
const firstPort, portCount = 10_000, 20_000

// lastPort is the offset of the last port that FreeAddress returned. It begins at a random port, because several test
// binaries run at the same time.
var lastPort = func() *atomic.Int64 {
	n := new(atomic.Int64)
	n.Store(rand.Int64N(portCount))
	return n
}()

// FreeAddress returns a loopback address whose TCP port is free. Calls in the same process return different addresses.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for range portCount {
		address := fmt.Sprintf("127.0.0.1:%d", firstPort+lastPort.Add(1)%portCount)
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}
