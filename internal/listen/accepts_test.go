package listen_test

import (
	"net"
	"os"
	"testing"

	"cbproxy/internal/listen"
)

func TestAccepts(t *testing.T) {
	for _, c := range []struct {
		listen, host, port string
		want               bool
	}{
		{"127.0.0.1:8080", "127.0.0.1", "8081", false},
		{"127.0.0.1:8080", "127.0.0.1", "8080", true},
		{"127.0.0.1:8080", "LOCALHOST.", "8080", true},
		{"127.0.0.1:8080", "::ffff:127.0.0.1", "8080", true},
		{"127.0.0.1:8080", "0.0.0.0", "8080", true},
		{"127.0.0.1:8080", "me.localhost", "8080", true},
		{"127.0.0.1:8080", "127.0.0.2", "8080", false},
		{"127.0.0.1:8080", "192.0.2.1", "8080", false},
		{"127.0.0.1:8080", "rag", "8080", false},
		{"127.0.0.1:80", "127.0.0.1", "80", true},
		{"[::1]:8080", "::1", "8080", true},
		{"[::1]:8080", "0:0::1", "8080", true},
		{"[::1]:8080", "localhost", "8080", true},
		{"[::1]:8080", "::", "8080", true},
		{"[::1]:8080", "127.0.0.1", "8080", false},
		{"localhost:8080", "127.0.0.1", "8080", true},
		{"rag.internal:8080", "RAG.internal", "8080", true},
		{"0.0.0.0:8080", "127.0.0.1", "8080", true},
		{"0.0.0.0:8080", "127.1.2.3", "8080", true},
		{"0.0.0.0:8080", "localhost", "8080", true},
		{"0.0.0.0:8080", "::1", "8080", false}, // where another process may listen
		{"0.0.0.0:8080", "192.0.2.1", "8080", false},
		{":8080", "::1", "8080", true},
		{"[::]:8080", "127.0.0.1", "8080", true},
		{"[::]:8080", "rag", "8080", false},
		{"127.0.0.1:0", "127.0.0.1", "8080", false},
		{"unix:///run/proxy.sock", "127.0.0.1", "8080", false},
	} {
		if got := parse(t, c.listen).Accepts(c.host, c.port); got != c.want {
			t.Errorf("%s accepts connections to host %s, port %s: %t, want %t", c.listen, c.host, c.port, got, c.want)
		}
	}
}

// A listener on all addresses accepts connections to each address of this machine, and to its name.
func TestAcceptsOwnAddresses(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		n, ok := a.(*net.IPNet)
		if !ok || n.IP.To4() == nil || n.IP.IsLoopback() {
			continue
		}
		for _, own := range []string{n.IP.String(), host} {
			if !parse(t, "0.0.0.0:8080").Accepts(own, "8080") {
				t.Errorf("0.0.0.0:8080 does not accept connections to %s", own)
			}
		}
	}
}

func parse(t *testing.T, text string) listen.Address {
	t.Helper()
	address, err := listen.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return address
}
