package redirect

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// buildProxy builds cbproxy with this strategy as README.md describes, but without changing the
// checkout: the workspace file is elsewhere, and an overlay adds the file with the import.
func buildProxy(t *testing.T) (binary string) {
	t.Helper()
	checkout, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	custom := write("custom.go", "package main\n\nimport _ \"example.com/redirect\"\n")
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(checkout, "cmd/cbproxy/custom.go"): custom}})
	if err != nil {
		t.Fatal(err)
	}
	workspace := write("go.work", fmt.Sprintf("go 1.26.0\n\nuse %q\n\nuse %q\n", checkout, filepath.Join(checkout, "examples/strategy")))
	binary = filepath.Join(folder, "cbproxy")
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", write("overlay.json", string(overlay)), "-o", binary, "./cmd/cbproxy")
	build.Dir, build.Env = checkout, append(os.Environ(), "GOWORK="+workspace, "GOFLAGS=-buildvcs=false -pgo=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build cbproxy: %v\n%s", err, out)
	}
	return binary
}

func TestProxyRedirects(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a binary")
	}
	binary := buildProxy(t)
	config := filepath.Join(t.TempDir(), "config.yaml")
	content := `listen: 127.0.0.1:0
admin: {listen: 127.0.0.1:0}
data_dir: ""
routes: {search: {prefix: /search, upstream: "http://127.0.0.1:1"}}
fallbacks: {search: {when: [connect], try: [redirect], redirect: {url: "https://standby.example.com"}}}
`
	if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	proxy := exec.CommandContext(t.Context(), binary, "run", "--config", config)
	proxy.Cancel = func() error { return proxy.Process.Signal(os.Interrupt) }
	output, err := proxy.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Wait() }) // the end of the test's context stops the proxy
	client := &http.Client{
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Get("http://" + listenAddress(t, output) + "/search?q=tea")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if h := res.Header; res.StatusCode != 307 || h.Get("Location") != "https://standby.example.com/search?q=tea" || h.Get("X-Fallback") != "redirect" {
		t.Errorf("got %s %v", res.Status, h)
	}
}

// listenAddress returns the proxy's address, which it logs when it is ready.
func listenAddress(t *testing.T, output io.Reader) string {
	t.Helper()
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if m := regexp.MustCompile(`\blisten=(\S+)`).FindStringSubmatch(lines.Text()); m != nil {
			go func() { _, _ = io.Copy(io.Discard, output) }()
			return m[1]
		}
		t.Log(lines.Text())
	}
	t.Fatal("the proxy has ended")
	return ""
}
