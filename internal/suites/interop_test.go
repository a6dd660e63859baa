package suites

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// interopCase is a case of gRPC's interoperability tests, with the outcomes that the breaker must count.
type interopCase struct {
	name   string
	grpc   int  // calls that end with a status code that counts as a failure
	late   bool // the client may cancel the last of them before it fails
	unseen bool // the client may disconnect before the call reaches the proxy
}

// interopCases are all of the client's cases that need no cloud credentials, except pick_first_unary, which requires a
// server ID that Go's test server does not have.
var interopCases = []interopCase{
	{name: "empty_unary"},
	{name: "large_unary"},
	{name: "client_streaming"},
	{name: "server_streaming"},
	{name: "ping_pong"},
	{name: "empty_stream"},
	{name: "timeout_on_sleeping_server", grpc: 1, late: true, unseen: true},
	{name: "cancel_after_begin", unseen: true},
	{name: "cancel_after_first_response"},
	{name: "status_code_and_message", grpc: 2}, // UNKNOWN for a unary call and at the end of a stream
	{name: "custom_metadata"},
	{name: "special_status_message", grpc: 1}, // UNKNOWN
	{name: "unimplemented_method"},
	{name: "unimplemented_service"},
	{name: "orca_per_rpc"},
	{name: "orca_oob"},
	{name: "rpc_soak"},
	{name: "channel_soak"},
}

// interopRoute is a route for all services of the test server, and for one that it does not have.
const interopRoute = `routes:
  svc:
    prefix: [/grpc.testing.TestService, /grpc.testing.UnimplementedService, /xds.service.orca.v3.OpenRcaService]
    strip_prefix: false
`

func TestGRPCInteroperability(t *testing.T) {
	tools := buildInterop(t)
	t.Run("h2c", func(t *testing.T) {
		t.Parallel()
		testInterop(t, tools, "    upstream: h2c://%s\n")
	})
	t.Run("tls", func(t *testing.T) {
		t.Parallel()
		certificate, key := writeCertificate(t)
		route := "    upstream: https://%s\n    tls: {ca_file: " + certificate + "}\n"
		testInterop(t, tools, route, "-use_tls", "-tls_cert_file", certificate, "-tls_key_file", key)
	})
}

// buildInterop builds the test client and server, and returns their folder.
func buildInterop(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	build := exec.Command("go", "build", "-o", folder+"/", "google.golang.org/grpc/interop/client", "google.golang.org/grpc/interop/server")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return folder
}

// testInterop runs all cases sequentially through one proxy with the given route to the server.
func testInterop(t *testing.T, tools, route string, serverFlags ...string) {
	server := startInteropServer(t, filepath.Join(tools, "server"), serverFlags)
	config := interopRoute + fmt.Sprintf(route, server) + "    breaker: {grpc_failure_codes: [UNKNOWN, DEADLINE_EXCEEDED]}\n"
	p := startProxy(t, config)
	passed := 0
	for _, c := range interopCases {
		if t.Run(c.name, func(t *testing.T) { testInteropCase(t, p, filepath.Join(tools, "client"), c) }) {
			passed++
		}
	}
	m := p.settled()
	if m.state() != closed {
		t.Errorf("the breaker's state is %v at the end", m.state())
	}
	t.Logf("%d of %d cases passed; requests: %v; failures: %v", passed, len(interopCases), m.requests(), m.failures())
}

// startInteropServer starts the test server and returns its address.
func startInteropServer(t *testing.T, binary string, flags []string) string {
	t.Helper()
	address := freeAddress(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	server := exec.Command(binary, append(flags, "-port", port)...)
	server.Stderr = os.Stderr
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	eventually(t, "the interoperability server listens", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return address
}

// testInteropCase runs one case. The client must succeed, and the breaker must have counted the right outcomes.
func testInteropCase(t *testing.T, p *proxyProcess, client string, c interopCase) {
	before := p.settled()
	host, port, err := net.SplitHostPort(p.data)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(context.Background(), 2*waitTimeout)
	defer stop()
	command := exec.CommandContext(ctx, client, "-server_host", host, "-server_port", port, "-test_case", c.name,
		"-soak_overall_timeout_seconds", "60", "-soak_per_iteration_max_acceptable_latency_ms", "30000")
	if c.name == "orca_oob" || c.name == "orca_per_rpc" {
		// Only this load balancing policy of the client receives the load reports.
		command.Args = append(command.Args, "-service_config_json", `{"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}`)
	}
	command.Env = append(os.Environ(), "GRPC_GO_LOG_SEVERITY_LEVEL=info")
	command.WaitDelay = time.Second
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("client: %v\n%s", err, out)
	}
	after := p.settled()
	if !c.unseen && maps.Equal(before.requests(), after.requests()) {
		t.Error("no request went through the proxy")
	}
	want := before.failures()
	if c.grpc > 0 {
		want["grpc"] += c.grpc
	}
	got := after.failures()
	if c.late && got["grpc"] == want["grpc"]-1 {
		want = before.failures()
	}
	if !maps.Equal(got, want) {
		t.Errorf("failures are %v, want %v", got, want)
	}
}

// writeCertificate writes a self-signed certificate for 127.0.0.1 and its key.
func writeCertificate(t *testing.T) (certificate, key string) {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	pair := server.TLS.Certificates[0]
	private, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	certificate, key = filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	for file, block := range map[string]*pem.Block{
		certificate: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]},
		key:         {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key
}
