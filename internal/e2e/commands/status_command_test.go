package commands

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// tell runs a command against p with a valid token.
func runClient(p *harness.Proxy, t *testing.T, args ...string) (status int, out, errors string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(harness.AdminToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return harness.RunCommand(t, append(args, "--admin", p.AdminURL, "--token-file", file)...)
}

// deadRoute returns the configuration of two services, of priority 1 and 3, whose upstreams are down.
func deadRoute(t *testing.T) string {
	return "routes: {rag_service: {upstream: 'http://" + harness.FreeAddress(t) + "', breaker: {fail_max: 2, recovery_timeout: 10m}},\n" +
		"  vms_service: {upstream: 'http://" + harness.FreeAddress(t) + "'}}\n"
}

func TestStatusAndForce(t *testing.T) {
	t.Parallel()
	p := harness.StartProxy(t, harness.Options{Config: deadRoute(t)})
	for _, step := range []struct {
		args   string
		status int
		want   []string
	}{
		{"status --exit-code", 0, []string{"healthy", "rag_service", "closed", "0/2", "redis none"}},
		{"force rag open --duration 10m --reason maintenance", 0, []string{"rag_service is open, forced open for 10m00s: maintenance"}},
		{"status --exit-code", 4, []string{"critical", "maintenance"}},
		{"status", 0, []string{"critical"}},
		{"force rag_service closed -o json", 0, []string{`"circuit_breaker_state": "closed"`, `"scope": "instance"`}},
		{"force rag_service auto", 0, []string{"rag_service is closed, no longer forced"}},
		{"status rag", 0, []string{"recovery timeout", "10m0s", "forced", "maintenance", "CAUSE"}},
		{"force rag open --scope fleet", 1, []string{"rejects", "fleet"}},
		{"force rog open", 1, []string{`no service is named "rog"`, "rag_service"}},
		{"status rog", 1, []string{`no service is named "rog"`, "rag_service"}},
		{"force rag ajar", 2, []string{"half-open", `"ajar"`}},
		{"force rag half-open --duration 1s", 2, []string{"--duration"}},
		{"force rag open --duration -1s", 2, []string{"--duration"}},
		{"force rag open --scope all", 2, []string{"--scope"}},
		{"force rag", 2, []string{"--help"}},
		{"status -o yaml", 2, []string{"--output"}},
		{"status -w -o json", 2, []string{"--watch"}},
		{"queue list --limit 0", 2, []string{"--limit"}},
		{"force vms open", 0, []string{"vms_service is open, forced open until released"}},
		{"status --exit-code", 3, []string{"degraded"}},
		{"completion bash", 0, []string{"cbproxy"}},
		{"__complete force ", 0, []string{"rag_service"}},
		{"__complete force rag_service ", 0, []string{"half-open", "auto"}},
	} {
		args := strings.Split(step.args, " ")
		var status int
		var out, stderr string
		if args[0] == "completion" {
			status, out, stderr = harness.RunCommand(t, args...)
		} else if args[0] == "__complete" { // flags stand before the word that is completed
			word := args[len(args)-1]
			status, out, stderr = harness.RunCommand(t, append(append(args[:len(args)-1:len(args)-1], "--admin", p.AdminURL), word)...)
		} else {
			status, out, stderr = runClient(p, t, args...)
		}
		if status != step.status {
			t.Errorf("%s: exit status %d, want %d: %s%s", step.args, status, step.status, out, stderr)
		}
		for _, want := range step.want {
			if !strings.Contains(out+stderr, want) {
				t.Errorf("%s: no %q in\n%s%s", step.args, want, out, stderr)
			}
		}
		if strings.Contains(out+stderr, harness.AdminToken) || strings.Contains(out, "\x1b") {
			t.Errorf("%s: the token or a colour in\n%s%s", step.args, out, stderr)
		}
	}
	for _, args := range [][]string{{"status", "-o", "json"}, {"status", "rag", "-o", "json"}, {"queue", "list", "-o", "json"}} {
		var document map[string]any
		if _, out, _ := runClient(p, t, args...); json.Unmarshal([]byte(out), &document) != nil || len(document) < 2 {
			t.Errorf("%v: not one JSON document: %s", args, out)
		}
	}
}

func TestWatchShowsChanges(t *testing.T) {
	t.Parallel()
	p := harness.StartProxy(t, harness.Options{Config: deadRoute(t)})
	out := new(harness.LogBuffer)
	c := exec.Command(harness.Binary, "status", "--watch", "--admin", p.AdminURL)
	c.Stdout, c.Stderr = out, out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		if t.Failed() {
			t.Logf("it has drawn:\n%s", out)
		}
	})
	shows := func(what string) {
		t.Helper()
		harness.Eventually(t, what, func() bool { return strings.Contains(out.String(), what) })
	}
	shows("healthy")
	for range 2 {
		p.Get("/rag/query")
	}
	shows("critical")
	shows("2/2")
	p.Kill()
	shows("CONNECTION LOST")
	p.Start()
	shows("instance " + p.Health().Instance) // which is another one now
	if text := out.String(); strings.Contains(text[strings.LastIndex(text, p.Health().Instance):], "CONNECTION LOST") {
		t.Errorf("it is called lost again:\n%s", text)
	}
	if err := c.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("interrupted: %v\n%s", err, out)
	}
}

func TestQueueCommands(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(u.Upstream, "")})
	p.MustQueue("a", "b")
	status, out, _ := runClient(p, t, "queue", "list", "--state", "waiting", "--limit", "1")
	if status != 0 || !strings.Contains(out, "POST /svc/a") || !strings.Contains(out, "There are more") {
		t.Errorf("list: exit status %d\n%s", status, out)
	}
	_, requests := p.Queue()
	if len(requests) != 2 {
		t.Fatalf("queued: %+v", requests)
	}
	if status, out, stderr := runClient(p, t, "queue", "drop", "svc.999999", requests[1].ID); status != 1 || !strings.Contains(out, requests[1].ID+" dropped") || !strings.Contains(stderr, "svc.999999") {
		t.Errorf("drop: exit status %d\n%s%s", status, out, stderr)
	}
	if status, out, stderr := runClient(p, t, "queue", "drop", "svc.999999", "-o", "json"); status != 1 || out != "[]\n" || !strings.Contains(stderr, "svc.999999") {
		t.Errorf("drop none, as JSON: exit status %d\n%s%s", status, out, stderr)
	}
	if _, left := p.Queue(); len(left) != 1 || left[0].ID != requests[0].ID {
		t.Errorf("after the drop: %+v", left)
	}
	var answers []harness.QueuedRequest
	if status, out, stderr := runClient(p, t, "queue", "retry", requests[0].ID, "-o", "json"); status != 0 || json.Unmarshal([]byte(out), &answers) != nil || len(answers) != 1 {
		t.Errorf("retry: exit status %d\n%s%s", status, out, stderr)
	}
	u.Start()
	t.Cleanup(u.Kill)
	u.AwaitDelivered("a")
	harness.Eventually(t, "the list is empty", func() bool {
		_, out, _ := runClient(p, t, "queue", "list", "--service", "svc")
		return strings.Contains(out, "Nothing is queued")
	})
}

func TestCommandsReportErrors(t *testing.T) {
	t.Parallel()
	p := harness.StartProxy(t, harness.Options{Config: deadRoute(t)})
	wrong := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(wrong, []byte("wrong-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 1)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.Header.Get("Authorization") }))
	defer elsewhere.Close()
	redirect := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer redirect.Close()
	noToken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer noToken.Close()
	secure := httptest.NewTLSServer(noToken.Config.Handler)
	defer secure.Close()
	authority := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"status", "--admin", "127.0.0.1:1"}, 1, "no response from cbproxy at http://127.0.0.1:1"},
		{[]string{"status", "--admin", "127.0.0.1:1"}, 1, "Is it running there? Set its address with --admin"},
		{[]string{"status", "--admin", "ftp://x"}, 2, "--admin: must be"},
		{[]string{"status", "--token-file", "/nowhere"}, 2, "--token-file"},
		{[]string{"force", "rag", "open", "--admin", p.AdminURL}, 1, "--token-file FILE or in CBPROXY_ADMIN_TOKEN"},
		{[]string{"force", "rag", "open", "--admin", p.AdminURL, "--token-file", wrong}, 1, "The token from --token-file"},
		{[]string{"status", "--admin", noToken.URL}, 1, "admin.token_file in its configuration"},
		{[]string{"status", "--admin", secure.URL}, 1, "certificate"},
		{[]string{"status", "--admin", secure.URL, "--ca-file", authority}, 1, "admin.token_file in its configuration"},
		{[]string{"status", "--admin", secure.URL, "--ca-file", wrong}, 2, "--ca-file"},
		{[]string{"status", "--admin", redirect.URL, "--token-file", wrong}, 1, "redirect"},
	} {
		status, out, stderr := harness.RunCommand(t, c.args...)
		if status != c.status || !strings.Contains(stderr, c.want) || strings.Contains(out+stderr, "wrong-token") {
			t.Errorf("%v: exit status %d, want %d and %q:\n%s%s", c.args, status, c.status, c.want, out, stderr)
		}
	}
	select {
	case got := <-asked:
		t.Errorf("the redirect was followed, with %q", got)
	default:
	}
	var out bytes.Buffer
	c := exec.Command(harness.Binary, "status", "rag")
	c.Env, c.Stdout = append(os.Environ(), "CBPROXY_ADMIN="+strings.TrimPrefix(p.AdminURL, "http://")), &out
	if err := c.Run(); err != nil || !strings.Contains(out.String(), "rag_service") {
		t.Errorf("by CBPROXY_ADMIN: %v\n%s", err, &out)
	}
}
