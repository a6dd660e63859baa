package suites

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

const (
	toxicFailMax  = 2
	toxicUpload   = 100_000 // bytes of a POST's body
	toxicFallback = `{"rests":true}`
)

// outcome describes the response to a client.
type outcome struct {
	status   int
	fallback string // X-Fallback-Reason
	end      string // "complete" or "truncated"
}

var (
	success   = outcome{200, "", "complete"}
	truncated = outcome{200, "", "truncated"}
)

// fallback returns the outcome of a complete fallback.
func fallback(reason string) outcome { return outcome{203, reason, "complete"} }

// toxicCase is a network fault between the proxy and the upstream, with the expected outcome of each request.
type toxicCase struct {
	name  string
	toxic string // in the format of Toxiproxy's API; "" for a network that is down
	route string // keys of the route; "" for longTimeoutRoute
	path  string
	only  string // the only method to test; "" for all
	sends int    // bytes of a POST's body, if not toxicUpload
	http1 bool   // for HTTP/1.1 only
	want  outcome
	fails string // type of the failure; "" for none
}

// long is a delay in milliseconds that is longer than any test waits.
const long = "60000"

// longTimeoutRoute has timeouts that are long enough for a busy machine.
const longTimeoutRoute = "timeout: 25"

var toxicCases = []toxicCase{
	{
		name: "latency below the timeout", path: "/known/8000", want: success,
		toxic: `{"type": "latency", "attributes": {"latency": 100}}`,
	},
	{
		name: "latency beyond the timeout", path: "/known/8000", want: fallback("timeout"), fails: "timeout",
		toxic: `{"type": "latency", "attributes": {"latency": ` + long + `}}`, route: "timeout: 0.5",
	},
	{
		name: "a slow small body", path: "/known/50000", want: fallback("timeout"), fails: "timeout",
		toxic: `{"type": "bandwidth", "attributes": {"rate": 5}}`, route: "timeout: 1",
	},
	{
		name: "a slow large body", path: "/known/1000000", want: truncated, fails: "timeout", http1: true,
		toxic: `{"type": "bandwidth", "attributes": {"rate": 50}}`, route: "timeout: 4",
	},
	{
		// The timeout covers a stream up to its header section.
		name: "a slow stream", path: "/stream/80000", want: success, only: http.MethodGet,
		toxic: `{"type": "bandwidth", "attributes": {"rate": 20}}`, route: "timeout: 3",
	},
	{
		name: "a slow upload", path: "/known/8000", want: fallback("timeout"), fails: "timeout", only: http.MethodPost,
		toxic: `{"type": "bandwidth", "stream": "upstream", "attributes": {"rate": 5}}`, route: "timeout: 0.5",
	},
	{
		name: "a response in small pieces", path: "/known/50000", want: success,
		toxic: `{"type": "slicer", "attributes": {"average_size": 64, "size_variation": 32, "delay": 10}}`,
	},
	{
		name: "a stream in small pieces", path: "/stream/50000", want: success,
		toxic: `{"type": "slicer", "attributes": {"average_size": 64, "size_variation": 32, "delay": 10}}`,
	},
	{
		name: "a request in small pieces", path: "/known/8000", want: success,
		toxic: `{"type": "slicer", "stream": "upstream", "attributes": {"average_size": 64, "size_variation": 32, "delay": 10}}`,
	},
	{
		name: "a reset instead of a response", path: "/known/8000", want: fallback("reset"), fails: "reset",
		toxic: `{"type": "reset_peer", "attributes": {"timeout": 0}}`,
	},
	{
		name: "a reset during the request", path: "/known/8000", want: fallback("reset"), fails: "reset", sends: 100_000,
		toxic: `{"type": "reset_peer", "stream": "upstream", "attributes": {"timeout": 0}}`,
	},
	{
		name: "a response that never comes", path: "/known/8000", want: fallback("timeout"), fails: "timeout",
		toxic: `{"type": "timeout", "attributes": {"timeout": 0}}`, route: "timeout: 0.5",
	},
	{
		name: "a request that never arrives", path: "/known/8000", want: fallback("timeout"), fails: "timeout",
		toxic: `{"type": "timeout", "stream": "upstream", "attributes": {"timeout": 0}}`, route: "timeout: 0.5",
	},
	{
		name: "no data, then the end of the connection", path: "/known/8000", want: fallback("reset"), fails: "reset",
		toxic: `{"type": "timeout", "attributes": {"timeout": 200}}`,
	},
	{
		name: "truncated within the header section", path: "/known/8000", want: fallback("reset"), fails: "reset", http1: true,
		toxic: `{"type": "limit_data", "attributes": {"bytes": 100}}`,
	},
	{
		name: "truncated within a small body", path: "/known/8000", want: fallback("reset"), fails: "truncated",
		toxic: `{"type": "limit_data", "attributes": {"bytes": 4000}}`,
	},
	{
		name: "truncated within a large body", path: "/known/1000000", want: truncated, fails: "truncated",
		toxic: `{"type": "limit_data", "attributes": {"bytes": 400000}}`,
	},
	{
		name: "truncated within a stream", path: "/stream/50000", want: truncated, fails: "truncated",
		toxic: `{"type": "limit_data", "attributes": {"bytes": 20000}}`,
	},
	{
		name: "truncated within an upload", path: "/known/8000", want: fallback("reset"), fails: "reset", only: http.MethodPost, sends: 100_000,
		toxic: `{"type": "limit_data", "stream": "upstream", "attributes": {"bytes": 1000}}`,
	},
	{
		name: "a stream that never ends", path: "/close/8000", want: truncated, fails: "idle", http1: true,
		toxic: `{"type": "slow_close", "attributes": {"delay": ` + long + `}}`, route: "idle_timeout: 0.5",
	},
	{
		name: "nothing listens", path: "/known/8000", want: fallback("connect"), fails: "connect",
	},
}

// Each network fault is counted with its type, never results in a response that looks complete, opens the breaker, and
// stops affecting clients when it ends.
func TestToxics(t *testing.T) {
	zerolog.SetGlobalLevel(zerolog.Disabled) // some toxics log to the global logger
	for _, c := range toxicCases {
		for _, w := range toxicSetups {
			if c.http1 && w.scheme != "http" || c.only != "" && c.only != w.method || w.sends > 0 && (c.sends > 0 || c.only != "") {
				continue
			}
			t.Run(w.String()+" "+c.name, func(t *testing.T) {
				t.Parallel()
				testToxic(t, c, w)
			})
		}
	}
}

// toxicSetup is a combination of protocol, server and transport.
type toxicSetup struct {
	scheme, method string
	sends          int    // bytes of body, if the case does not set them
	engine         string // value of the keys server and transport
}

func (w toxicSetup) String() string {
	return fmt.Sprint(w.scheme, " ", w.method, " ", w.sends, " ", w.engine)
}

// toxicSetups are the combinations of server and transport. Long requests always use net/http.
var toxicSetups = []toxicSetup{
	{"http", http.MethodGet, 0, "auto"}, {"http", http.MethodGet, 0, "net_http"},
	{"http", http.MethodPost, 1000, "auto"}, {"http", http.MethodPost, 1000, "net_http"},
	{"http", http.MethodPost, 0, "auto"},
	{"h2c", http.MethodGet, 0, "auto"}, {"h2c", http.MethodPost, 0, "auto"},
}

// testToxic tests one fault with one setup.
func testToxic(t *testing.T, c toxicCase, w toxicSetup) {
	network := startNetwork(t, startUpstream(t).Listener.Addr().String())
	scheme, method := w.scheme, w.method
	var upload []byte
	if method == http.MethodPost {
		upload = content(cmp.Or(c.sends, w.sends, toxicUpload))
	}
	config := func(route, recovery string) string {
		return fmt.Sprintf(`server: %s
routes:
  svc: {prefix: /svc, upstream: '%s://%s', transport: %s, %s, breaker: {fail_max: %d, recovery_timeout: %s}}
fallbacks:
  svc: {when: [open, half_open_limit, connect, timeout, reset], try: [static], static: {status: 203, body: {rests: true}}}
`, w.engine, scheme, network.Listen, w.engine, route, toxicFailMax, recovery)
	}
	p := startProxy(t, config(longTimeoutRoute, "1h"))
	if c.toxic != "" { // with a network that is down, an idle connection would be reset
		if got := p.exchange(method, c.path, upload); got != success {
			t.Fatalf("before the toxic: %v", got)
		}
	}
	if c.route != "" {
		p.reload(config(c.route, "1h"))
	}
	removeToxic := addToxic(t, network, c.toxic)
	for n := range toxicFailMax {
		if got := p.exchange(method, c.path, upload); got != c.want {
			t.Errorf("request %d: got %v, want %v", n+1, got, c.want)
		}
	}
	if c.fails == "" {
		p.expect(closed, nil)
		return
	}
	failures := map[string]int{c.fails: toxicFailMax}
	if found := p.settled().failures(); scheme == "h2c" && failures["reset"]+failures["truncated"] > 0 &&
		found["reset"]+found["truncated"]+found["protocol"] == toxicFailMax {
		failures = found // the failure type of a lost connection depends on the timing of frames
	}
	p.expect(open, failures)
	if got := p.exchange(method, c.path, upload); got != fallback("open") {
		t.Errorf("while open: got %v", got)
	}
	removeToxic()
	p.reload(config(longTimeoutRoute, "0.1")) // also applies to the current opening
	eventually(t, "the breaker has closed", func() bool { return p.exchange(method, c.path, upload) == success && p.metrics().state() == closed })
	p.expect(closed, failures)
}

// expect checks the breaker's state and the failures by type.
func (p *proxyProcess) expect(state float64, failures map[string]int) {
	p.t.Helper()
	if m := p.settled(); m.state() != state || !maps.Equal(m.failures(), failures) {
		p.t.Errorf("the breaker's state is %v with failures %v, want %v with %v", m.state(), m.failures(), state, failures)
	}
}

// startNetwork starts a network without faults.
func startNetwork(t *testing.T, upstream string) *toxiproxy.Proxy {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	network := toxiproxy.NewProxy(server, "network", "127.0.0.1:0", upstream)
	if err := network.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(network.Stop)
	return network
}

// addToxic adds a toxic, also to existing connections, and returns a function that removes it.
func addToxic(t *testing.T, network *toxiproxy.Proxy, toxic string) (removeToxic func()) {
	t.Helper()
	if toxic == "" {
		network.Stop()
		return func() {
			if err := network.Start(); err != nil {
				t.Fatal(err)
			}
		}
	}
	added, err := network.Toxics.AddToxicJson(strings.NewReader(toxic))
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := network.Toxics.RemoveToxic(context.Background(), added.Name); err != nil {
			t.Fatal(err)
		}
	}
}

// exchange sends a request and returns its outcome.
func (p *proxyProcess) exchange(method, path string, upload []byte) outcome {
	p.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), waitTimeout)
	defer stop()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+p.data+"/svc"+path, bytes.NewReader(upload))
	if err != nil {
		p.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatalf("no response: %v", err) // failures have one, too
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if ctx.Err() != nil {
		p.t.Fatalf("%s %s: the response did not end within %v", method, path, waitTimeout)
	}
	got := outcome{res.StatusCode, res.Header.Get("X-Fallback-Reason"), "complete"}
	var n int
	_, _ = fmt.Sscanf(path[strings.LastIndex(path, "/"):], "/%d", &n)
	switch want := content(n); {
	case err != nil && bytes.HasPrefix(want, body):
		got.end = "truncated"
	case got.fallback != "" && string(body) == toxicFallback && res.Header.Get("X-Fallback") == "static":
	case got.fallback == "" && bytes.Equal(body, want) && res.Header.Get(receivedField) == digest(upload):
	default:
		p.t.Errorf("%s %s: %d with %d unexpected bytes, %v: %.100q", method, path, res.StatusCode, len(body), err, body)
	}
	return got
}
