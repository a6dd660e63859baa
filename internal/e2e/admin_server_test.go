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

	// ask tells which certificate an answer came under, "" if none came.
	ask := func() (name, protocol string) {
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
	harness.Eventually(t, "it answers over TLS", func() bool { name, _ := ask(); return name == "first" })
	if _, protocol := ask(); protocol != "HTTP/2.0" {
		t.Errorf("it speaks %s", protocol)
	}
	if r, err := http.Get(p.AdminURL + "/api/v1/config"); err == nil && r.StatusCode != 400 {
		t.Errorf("without TLS: status %d", r.StatusCode)
	}
	secured := strings.Replace(p.AdminURL, "http:", "https:", 1)
	if out, err := exec.Command(harness.Binary, "healthcheck", "--admin", secured).CombinedOutput(); err != nil {
		t.Errorf("healthcheck: %v: %s", err, out)
	}
	if out, err := exec.Command(harness.Binary, "status", "--admin", secured, "--ca-file", certtest.Write(t, folder, "ca.crt", authority.PEM)).CombinedOutput(); err != nil || !strings.Contains(string(out), "svc") {
		t.Errorf("status: %v: %s", err, out)
	}
	if out, err := exec.Command(harness.Binary, "status", "--admin", secured).CombinedOutput(); err == nil || !strings.Contains(string(out), "certificate") {
		t.Errorf("status without the authority: %v: %s", err, out)
	}
	rotate("second")
	if name, _ := ask(); name != "second" {
		t.Errorf("after a rotation: %q", name)
	}
	if err := os.WriteFile(keyFile, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if name, _ := ask(); name != "second" || !strings.Contains(p.Log.String(), "keeping the previous certificates") {
		t.Errorf("with a broken key: %q", name)
	}
	p.Signal(syscall.SIGINT)
	if status := p.Wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// A name by which the admin plane may be called is live, and what is done to it is in the log
// without the token.
func TestAdminHostsAreReloadedAndActionsAreLogged(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	config := "routes: {svc: {prefix: /svc, upstream: " + u.URL() + "}}\n"
	p := harness.StartProxy(t, harness.Options{Config: config})
	byName := func() int {
		return callAdmin(p, "GET /api/v1/config", "", "", func(r *http.Request) { r.Host = "ops.example.com" }).Status
	}
	if got := byName(); got != 403 {
		t.Errorf("by a name that anybody may have: status %d", got)
	}
	p.AddAdminKeys("hosts: [ops.example.com]")
	p.ReplaceConfig(config)
	harness.Eventually(t, "the name is known", func() bool { return byName() == 200 })
	p.Force("svc", `{"state":"open","reason":"a\nb"}`)
	callAdmin(p, reloadOperation, "", "", withField("Authorization", "Bearer hunter2"))
	harness.Eventually(t, "both are in the log", func() bool {
		log := p.Log.String()
		return strings.Contains(log, `"action":"force-state","remote":"127.0.0.1:`) && strings.Contains(log, `"action":"refused"`)
	})
	if log := p.Log.String(); strings.Contains(log, "hunter2") || strings.Contains(log, harness.AdminToken) {
		t.Errorf("a token is in the log:\n%s", log)
	}
}
