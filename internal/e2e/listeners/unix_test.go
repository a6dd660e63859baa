package listeners

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// socketExists reports whether there is a Unix socket at path.
func socketExists(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&fs.ModeSocket != 0
}

// unixClient returns a client whose connections go to a Unix socket.
func unixClient(path string) *http.Client {
	return &http.Client{Timeout: harness.EventTimeout, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
}

// TestUnixSocketsHaveTheirModes checks the modes of the sockets of listen, admin.listen and a service, and that a reload changes
// the mode of an own listener without closing it.
func TestUnixSocketsHaveTheirModes(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	folder := t.TempDir()
	path := func(name string) string { return filepath.Join(folder, name) }
	config := func(mode string) []byte {
		return fmt.Appendf(nil, "listen: unix://%s?mode=0600\nadmin: {listen: \"unix://%s?mode=0660&group=%d\"}\ndata_dir: ''\nroutes: {svc: {upstream: %s, prefix: /svc, listen: \"unix://%s%s\"}}\n",
			path("proxy"), path("admin"), os.Getgid(), u.URL(), path("own"), mode)
	}
	file := path("config.yaml")
	if err := os.WriteFile(file, config("?mode=0666"), 0o600); err != nil {
		t.Fatal(err)
	}
	log := new(harness.LogBuffer)
	p := harness.StartProcess(t, nil, new(bytes.Buffer), log, "run", "--config", file)
	t.Cleanup(func() {
		p.Stop()
		harness.CheckLog(t, "cbproxy", log)
	})
	harness.Eventually(t, "the proxy is ready", func() bool {
		status, _, _ := harness.RunCommand(t, "healthcheck", "--admin", "unix://"+path("admin"))
		return status == 0
	})
	for name, want := range map[string]fs.FileMode{"proxy": 0o600, "admin": 0o660, "own": 0o666} {
		info, err := os.Lstat(path(name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != fs.ModeSocket|want {
			t.Errorf("%s: mode %v, want %04o", name, info.Mode(), want)
		}
	}
	for url, name := range map[string]string{"http://a/svc": "proxy", "http://a/x": "own"} {
		if r := get(t, unixClient(path(name)), url); r.Status != 200 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	connected, err := net.Dial("unix", path("own"))
	if err != nil {
		t.Fatal(err)
	}
	defer connected.Close()
	if err := os.WriteFile(file, config("?mode=0620"), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the mode has changed", func() bool {
		info, err := os.Lstat(path("own"))
		return err == nil && info.Mode() == fs.ModeSocket|0o620
	})
	if _, err := fmt.Fprint(connected, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		t.Error(err)
	}
	if n, err := connected.Read(make([]byte, 1)); n == 0 {
		t.Errorf("the connection opened before the reload: %v", err)
	}
}
