package endpoints

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// contender is a proxy with settings that are compared.
type contender struct {
	name string
	// settings returns the part of the configuration that differs.
	settings func(sc *scenario) string
	// launch starts the proxy with settings, and returns the URL for calls.
	launch func(t *testing.T, settings string, servers []*server) (url string)
}

func (c *contender) start(t *testing.T, sc *scenario, servers []*server) (url string) {
	return c.launch(t, c.settings(sc), servers)
}

var contenders = []*contender{
	{"cbproxy, defaults", func(*scenario) string { return "" }, startCbproxy},
	{"cbproxy, `retry: {attempts: 1}`", func(*scenario) string { return "retry: {attempts: 1, statuses: [500, 502, 503, 504]}" }, startCbproxy},
	{"cbproxy, the same and health checks (`probe.always`)", func(*scenario) string {
		return "retry: {attempts: 1, statuses: [500, 502, 503, 504]}, breaker: {probe: {path: /, always: true, interval: 2s}}"
	}, startCbproxy},
	{"HAProxy, defaults", func(*scenario) string { return "\n" }, startHAProxy},
	{"HAProxy, `retries 1`, `option redispatch`", func(*scenario) string { return haproxyRetries }, startHAProxy},
	{"HAProxy, the same and `observe layer7 error-limit 5 on-error mark-down`", func(*scenario) string {
		return haproxyRetries + haproxyObserve
	}, startHAProxy},
	{"HAProxy, the same and health checks (`check`, `option httpchk`)", func(*scenario) string {
		return haproxyRetries + haproxyObserve + "  option httpchk\n  default-server check\n"
	}, startHAProxy},
	{"nginx, `proxy_next_upstream error timeout http_500`", func(*scenario) string { return "proxy_next_upstream error timeout http_500;" }, startNginx},
}

const (
	haproxyRetries = "  retries 1\n  option redispatch\n  retry-on conn-failure empty-response 500\n"
	haproxyObserve = "  default-server observe layer7 error-limit 5 on-error mark-down\n"
)

func startCbproxy(t *testing.T, settings string, servers []*server) (url string) {
	var list []string
	for _, s := range servers {
		list = append(list, s.url())
	}
	return start(t, "["+strings.Join(list, ", ")+"]", settings).URL + "/svc"
}

func startHAProxy(t *testing.T, settings string, servers []*server) (url string) {
	address := harness.FreeAddress(t)
	content := fmt.Sprintf(`defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend f
  bind %s
  default_backend b
backend b
%s`, address, settings)
	for i, s := range servers {
		content += fmt.Sprintf("  server s%d %s\n", i, s.address)
	}
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	return startOther(t, address, file, content, "haproxy", "-db", "-f", file)
}

func startNginx(t *testing.T, settings string, servers []*server) (url string) {
	address, list := harness.FreeAddress(t), ""
	for _, s := range servers {
		list += "server " + s.address + "; "
	}
	folder := t.TempDir()
	file := filepath.Join(folder, "nginx.conf")
	return startOther(t, address, file, fmt.Sprintf(`daemon off;
master_process off;
error_log stderr crit;
pid nginx.pid;
events {}
http {
  access_log off;
  upstream u { %s keepalive 100; }
  server {
    listen %s;
    location / { proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; %s }
  }
}
`, list, address, settings), "nginx", "-p", folder, "-c", file)
}

// startOther writes a configuration, starts a command and waits until the address answers.
func startOther(t *testing.T, address, file, content string, command ...string) (url string) {
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(command[0], command[1:]...)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	harness.Eventually(t, command[0]+" answers", func() bool {
		res, err := http.Get("http://" + address + "/svc")
		if err == nil {
			_ = res.Body.Close()
		}
		return err == nil && res.StatusCode == http.StatusOK
	})
	return "http://" + address + "/svc"
}
