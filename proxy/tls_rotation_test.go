package proxy_test

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cbproxy/internal/certtest"
)

// A rotated client certificate is used for new connections without a reload. As in a Kubernetes secret, the files are symlinks
// through ..data, which is replaced so that all files change at once.
func TestRotatedClientCertificateIsUsedByTheNextConnection(t *testing.T) {
	ours := certtest.NewAuthority(t)
	folder := t.TempDir()
	rotate := func(version string) {
		certificate, key := ours.Sign(t, version)
		if err := os.Mkdir(filepath.Join(folder, version), 0o700); err != nil {
			t.Fatal(err)
		}
		certtest.Write(t, folder, version+"/tls.crt", certificate)
		certtest.Write(t, folder, version+"/tls.key", key)
		replaceSymlink(t, folder, version, "..data")
	}
	rotate("first")
	replaceSymlink(t, folder, "..data/tls.crt", "tls.crt")
	replaceSymlink(t, folder, "..data/tls.key", "tls.key")
	ca := certtest.Write(t, folder, "ca.pem", ours.PEM)
	upstream := tlsUpstream(t, ours, "127.0.0.1", &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.Pool()})
	_, address, recorded := start(t, routeConfig(upstream.URL, "tls: {ca_file: "+ca+", cert_file: "+folder+"/tls.crt, key_file: "+folder+"/tls.key}"))
	for _, version := range []string{"first", "second", "third"} {
		if version != "first" {
			rotate(version)
		}
		for _, resumed := range []string{"no", "yes"} {
			res, _ := get(t, "http://"+address+"/svc")
			recorded.next(t)
			if res.StatusCode != 200 || res.Header.Get("X-Client") != version || res.Header.Get("X-Resumed") != resumed {
				t.Errorf("status %d for %q, session resumed: %s; want %s and %s", res.StatusCode, res.Header.Get("X-Client"), res.Header.Get("X-Resumed"), version, resumed)
			}
		}
	}
}

// Requests succeed while the certificate and key files are being replaced one after the other.
func TestRotationFailsNoRequest(t *testing.T) {
	ours := certtest.NewAuthority(t)
	folder := t.TempDir()
	ca := certtest.Write(t, folder, "ca.pem", ours.PEM)
	rotate := func() {
		certificate, key := ours.Sign(t, "sidecar")
		certtest.Write(t, folder, "tls.crt", certificate) // does not match the key file until the next line
		certtest.Write(t, folder, "tls.key", key)
	}
	rotate()
	upstream := tlsUpstream(t, ours, "127.0.0.1", &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.Pool()})
	_, address, _ := start(t, routeConfig(upstream.URL, "tls: {ca_file: "+ca+", cert_file: "+folder+"/tls.crt, key_file: "+folder+"/tls.key}"))
	var requests sync.WaitGroup
	for range 4 {
		requests.Go(func() {
			for range 50 {
				res, err := http.Get("http://" + address + "/svc")
				if err != nil {
					t.Error(err)
					return
				}
				if _ = res.Body.Close(); res.StatusCode != 200 || res.Header.Get("X-Client") != "sidecar" {
					t.Errorf("status %d for %q", res.StatusCode, res.Header.Get("X-Client"))
				}
			}
		})
	}
	for range 50 {
		rotate()
	}
	requests.Wait()
}

// replaceSymlink atomically makes folder/name a symlink to target.
func replaceSymlink(t testing.TB, folder, target, name string) {
	t.Helper()
	if err := os.Symlink(target, filepath.Join(folder, "next")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(folder, "next"), filepath.Join(folder, name)); err != nil {
		t.Fatal(err)
	}
}

func TestRotatedAuthorityIsUsedByTheNextConnection(t *testing.T) {
	oldCA, newCA := certtest.NewAuthority(t), certtest.NewAuthority(t)
	folder := t.TempDir()
	ca := certtest.Write(t, folder, "ca.pem", oldCA.PEM)
	upstream := tlsUpstream(t, newCA, "127.0.0.1", &tls.Config{})
	_, address, recorded := start(t, routeConfig(upstream.URL, "tls: {ca_file: "+ca+"}", "breaker: {fail_max: 0}"))
	for i, step := range []struct {
		content string
		want    int
	}{{string(oldCA.PEM), 502}, {string(oldCA.PEM) + string(newCA.PEM), 200}, {string(newCA.PEM), 200}, {string(oldCA.PEM), 502}} {
		certtest.Write(t, folder, "ca.pem", []byte(step.content+strings.Repeat("\n", i))) // each content has another size than the one before
		res, _ := get(t, "http://"+address+"/svc")
		if o := recorded.next(t); res.StatusCode != step.want {
			t.Errorf("step %d: status %d, %+v; want %d", i, res.StatusCode, o, step.want)
		}
	}
}

// logBuffer collects log output. Safe for concurrent use.
type logBuffer struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

// take returns what was logged since the last call.
func (l *logBuffer) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.out.Reset()
	return l.out.String()
}

// If the TLS files become invalid, the proxy logs it once and goes on with the last valid ones.
func TestInvalidTLSFilesLeaveThePreviousOnesInUse(t *testing.T) {
	ours := certtest.NewAuthority(t)
	folder := t.TempDir()
	ca := certtest.Write(t, folder, "ca.pem", ours.PEM)
	certificate, key := ours.Sign(t, "first")
	nextCertificate, nextKey := ours.Sign(t, "second")
	certtest.Write(t, folder, "tls.crt", certificate)
	certtest.Write(t, folder, "tls.key", key)
	upstream := tlsUpstream(t, ours, "127.0.0.1", &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.Pool()})
	var logged logBuffer
	p := startProxy(t, routeConfig(upstream.URL, "tls: {ca_file: "+ca+", cert_file: "+folder+"/tls.crt, key_file: "+folder+"/tls.key}"),
		proxyOptions{logger: slog.New(slog.NewTextHandler(&logged, nil))})
	address, recorded := p.address, p.recorded
	expect := func(step, client, line string) {
		t.Helper()
		for range 3 {
			res, _ := get(t, "http://"+address+"/svc")
			if recorded.next(t); res.StatusCode != 200 || res.Header.Get("X-Client") != client {
				t.Errorf("%s: status %d for %q, want %q", step, res.StatusCode, res.Header.Get("X-Client"), client)
			}
		}
		text := logged.take()
		if want := min(1, len(line)); strings.Count(text, "level=") != want || !strings.Contains(text, line) {
			t.Errorf("%s: logged\n%s\nwant %d line with %q", step, text, want, line)
		}
	}
	expect("valid files", "first", "")
	certtest.Write(t, folder, "tls.crt", nextCertificate[:len(nextCertificate)/2])
	expect("truncated certificate", "first", "load tls.cert_file "+folder+"/tls.crt: no PEM block is a certificate")
	certtest.Write(t, folder, "tls.crt", nextCertificate)
	expect("new certificate, old key", "first", "load tls.key_file "+folder+"/tls.key: private key does not match public key")
	if err := os.Remove(filepath.Join(folder, "tls.key")); err != nil {
		t.Fatal(err)
	}
	expect("no key", "first", "load tls.key_file "+folder+"/tls.key: no such file or directory")
	certtest.Write(t, folder, "ca.pem", nil)
	expect("empty CA file", "first", "load tls.ca_file "+ca+": no PEM block is a certificate")
	certtest.Write(t, folder, "ca.pem", ours.PEM)
	certtest.Write(t, folder, "tls.key", nextKey)
	expect("new certificate and key", "second", "service=svc")
	if err := os.Chtimes(ca, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	expect("only the modification time changed", "second", "")
}

// A reload that changes the tls key uses a new pool, so that no connection made with other options is used.
func TestChangedTLSOptionsUseANewPool(t *testing.T) {
	ours, other := certtest.NewAuthority(t), certtest.NewAuthority(t)
	folder := t.TempDir()
	upstream := tlsUpstream(t, ours, "127.0.0.1", &tls.Config{})
	upstream.Config.SetKeepAlivesEnabled(true)
	text := func(file string, a *certtest.Authority) string {
		return routeConfig(upstream.URL, "tls: {ca_file: "+certtest.Write(t, folder, file, a.PEM)+"}", "breaker: {fail_max: 0}")
	}
	server, address, recorded := start(t, text("ours.PEM", ours))
	for _, step := range []struct {
		config string
		want   int
	}{{text("ours.PEM", ours), 200}, {text("other.PEM", other), 502}, {text("ours.PEM", ours), 200}} {
		if err := server.Apply(parse(t, step.config)); err != nil {
			t.Fatal(err)
		}
		if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != step.want {
			t.Errorf("status %d, want %d", res.StatusCode, step.want)
		}
		recorded.next(t)
	}
}

// If a TLS file is removed after the configuration was validated and before it is applied, the previous configuration stays in use.
func TestConfigurationWithMissingTLSFilesIsNotApplied(t *testing.T) {
	ours := certtest.NewAuthority(t)
	ca := certtest.Write(t, t.TempDir(), "ca.pem", ours.PEM)
	upstream := tlsUpstream(t, ours, "127.0.0.1", &tls.Config{})
	server, address, recorded := start(t, routeConfig(upstream.URL, "tls: {ca_file: "+ca+"}"))
	next := parse(t, routeConfig(upstream.URL, "tls: {ca_file: "+ca+"}", "timeout: 1s"))
	if err := os.Remove(ca); err != nil {
		t.Fatal(err)
	}
	want := "build routes.svc: load tls.ca_file " + ca + ": no such file or directory"
	if err := server.Apply(next); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if res, _ := get(t, "http://"+address+"/svc"); res.StatusCode != 200 {
		t.Errorf("status %d with the previous configuration", res.StatusCode)
	}
	recorded.next(t)
}
