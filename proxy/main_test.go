package proxy_test

import (
	"flag"
	"os"
	"testing"
)

// way is the server of every proxy, and the transport of every route whose configuration doesn't say one.
var httpMode = "auto"

// TestMain has every test try both ways from the client and to the upstream: what holds for one holds for the other.
func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	for _, once := range []string{"test.fuzz", "test.bench", "test.list"} {
		if flag.Lookup(once).Value.String() != "" {
			os.Exit(code)
		}
	}
	httpMode = "net_http"
	os.Exit(max(code, m.Run()))
}
