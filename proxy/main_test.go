package proxy_test

import (
	"flag"
	"net/http"
	"os"
	"testing"
)

// httpMode is the server setting of each proxy, and the transport of each route in a configuration that sets none.
var httpMode = "auto"

// TestMain runs all tests twice, except those that call inOneMode: with the fast path for plain HTTP/1.1 on both sides, and with net/http only. Both must behave
// alike.
func TestMain(m *testing.M) {
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue {
		_ = flag.Set("test.parallel", "6") // most tests wait; with many more, a client without processor time is a slow client
	}
	// The end of any httptest.Server closes the idle connections of http.DefaultTransport, which another test may be about to use.
	http.DefaultClient.Transport = http.DefaultTransport.(*http.Transport).Clone()
	code := m.Run()
	for _, once := range []string{"test.fuzz", "test.bench", "test.list"} {
		if flag.Lookup(once).Value.String() != "" {
			os.Exit(code)
		}
	}
	httpMode = "net_http"
	os.Exit(max(code, m.Run()))
}

// inOneMode skips a test in the second run: it does not depend on the server and the transport.
func inOneMode(t *testing.T) {
	t.Helper()
	if httpMode != "auto" {
		t.Skip("has run with the fast path")
	}
}
