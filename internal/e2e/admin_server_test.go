package e2e

import (
	"crypto/tls"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cbproxy/internal/certtest"
	"cbproxy/internal/e2e/harness"
)

// TestAdminTLSCertificateIsReloaded checks that the admin port serves HTTP/1.1 and HTTP/2 over TLS, that it uses a
// changed certificate without a restart, and that it keeps the previous certificate if the new files are invalid.
func TestAdminTLSCertificateIsReloaded(t *testing.T) {
	t.Parallel()
	folder, authority := t.TempDir(), certtest.NewAuthority(t)
	certFile, keyFile := filepath.Join(folder, "tls.crt"), filepath.Join(folder, "tls.key")
	rotate := func(name string) {
		certificate, key := authority.Sign(t, name, "127.0.0.1")
		certtest.Write(t, folder, "tls.crt", certificate)
		certtest.Write(t, folder, "tls.key", key)
	}
	rotate("first")
	u := harness.StartUpstream(t)
	config := "routes: {svc: {prefix: /svc, upstream: " + u.URL() + "}}\n"
	p := harness.StartProxy(t, harness.Options{Config: config})
	p.Kill()
	p.AddAdminKeys("tls: {cert_file: " + certFile + ", key_file: " + keyFile + "}")
	p.WriteConfig(config)
	p.Launch()

	// get returns the name in the server's certificate and the protocol, or empty strings if there is no response.
	get := func() (name, protocol string) {
		transport := &http.Transport{DisableKeepAlives: true, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		res, err := (&http.Client{Transport: transport, Timeout: harness.EventTimeout}).Get(strings.Replace(p.AdminURL, "http:", "https:", 1) + "/api/v1/circuit-breakers/health")
		if err != nil {
			return "", ""
		}
		defer res.Body.Close()
		if res.StatusCode != 200 {
			return "", ""
		}
		return res.TLS.PeerCertificates[0].Subject.CommonName, res.Proto
	}
	harness.Eventually(t, "the admin port responds over TLS", func() bool { name, _ := get(); return name == "first" })
	if _, protocol := get(); protocol != "HTTP/2.0" {
		t.Errorf("protocol %s, want HTTP/2.0", protocol)
	}
	if r, err := http.Get(p.AdminURL + "/api/v1/config"); err == nil && r.StatusCode != 400 {
		t.Errorf("without TLS: status %d", r.StatusCode)
	}
	secured := strings.Replace(p.AdminURL, "http:", "https:", 1)
	if out, err := exec.Command(harness.Binary(), "healthcheck", "--admin", secured).CombinedOutput(); err != nil {
		t.Errorf("healthcheck: %v: %s", err, out)
	}
	if out, err := exec.Command(harness.Binary(), "status", "--admin", secured, "--ca-file", certtest.Write(t, folder, "ca.crt", authority.PEM)).CombinedOutput(); err != nil || !strings.Contains(string(out), "svc") {
		t.Errorf("status: %v: %s", err, out)
	}
	if out, err := exec.Command(harness.Binary(), "status", "--admin", secured).CombinedOutput(); err == nil || !strings.Contains(string(out), "certificate") {
		t.Errorf("status without the CA certificate: %v: %s", err, out)
	}
	rotate("second")
	if name, _ := get(); name != "second" {
		t.Errorf("certificate %q after a change of the files", name)
	}
	if err := os.WriteFile(keyFile, []byte("invalid"), 0o600); err != nil {
		t.Fatal(err)
	}
	if name, _ := get(); name != "second" || !strings.Contains(p.Log.String(), "keeping the previous certificates") {
		t.Errorf("certificate %q with an invalid key file", name)
	}
	p.Signal(syscall.SIGINT)
	if status := p.Wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// TestAdminHostsAreReloadedAndActionsAreLogged checks that a reload applies admin.hosts, and that forced states and
// refused tokens are logged without the tokens.
func TestAdminHostsAreReloadedAndActionsAreLogged(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	config := "routes: {svc: {prefix: /svc, upstream: " + u.URL() + "}}\n"
	p := harness.StartProxy(t, harness.Options{Config: config})
	statusForHost := func() int {
		return callAdmin(p, "GET /api/v1/config", "", "", func(r *http.Request) { r.Host = "ops.example.com" }).Status
	}
	if got := statusForHost(); got != 403 {
		t.Errorf("unknown Host: status %d, want 403", got)
	}
	p.AddAdminKeys("hosts: [ops.example.com]")
	p.ReplaceConfig(config)
	harness.Eventually(t, "the added host is allowed", func() bool { return statusForHost() == 200 })
	p.Force("svc", `{"state":"open","reason":"a\nb"}`)
	callAdmin(p, reloadOperation, "", "", withField("Authorization", "Bearer hunter2"))
	harness.Eventually(t, "both actions are logged", func() bool {
		log := p.Log.String()
		return strings.Contains(log, `"action":"force-state","remote":"127.0.0.1:`) && strings.Contains(log, `"action":"refused"`)
	})
	if log := p.Log.String(); strings.Contains(log, "hunter2") || strings.Contains(log, harness.AdminToken) {
		t.Errorf("the log contains a token:\n%s", log)
	}
}
