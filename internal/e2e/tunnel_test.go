package e2e

import (
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// TestShutdownWaitsForTunnel checks that a shutdown gives a tunnel shutdown_timeout to finish, like any
// other request.
func TestShutdownWaitsForTunnel(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: "shutdown_timeout: 15\n" + harness.RouteConfig(u, 10)})
	c, r := p.Dial()
	defer c.Close()
	echo := func() error {
		received := make([]byte, 4)
		_, _ = io.WriteString(c, "ping")
		_, err := io.ReadFull(r, received)
		return err
	}
	fmt.Fprint(c, "GET /svc/socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if head := harness.ReadHead(t, r); !strings.HasPrefix(head, "HTTP/1.1 101 ") {
		t.Fatal(head)
	}
	if err := echo(); err != nil {
		t.Fatal(err)
	}
	p.Signal(syscall.SIGTERM)
	messages := time.NewTicker(20 * time.Millisecond)
	defer messages.Stop()
	for n := range 100 { // two seconds: a binary with the race detector takes one to exit
		if err := echo(); err != nil {
			t.Fatalf("the tunnel was cut at message %d after the signal: %v", n, err)
		}
		<-messages.C
	}
	_ = c.Close()
	if status := p.Wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// TestShutdownTimeoutClosesTunnel checks that an open tunnel is closed after shutdown_timeout.
func TestShutdownTimeoutClosesTunnel(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: "shutdown_timeout: 2\n" + harness.RouteConfig(u, 10)})
	c, r := p.Dial()
	defer c.Close()
	fmt.Fprint(c, "GET /svc/socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	harness.ReadHead(t, r)
	signalled := time.Now()
	p.Signal(syscall.SIGTERM)
	if status := p.Wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if open := time.Since(signalled); open < 2*time.Second {
		t.Errorf("the tunnel was closed after %v", open)
	}
	if rest, _ := io.ReadAll(r); len(rest) > 0 {
		t.Errorf("%q came through the tunnel", rest)
	}
}
