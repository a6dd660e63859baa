package commands

import (
	"bufio"
	"bytes"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// listener answers each connection, once a line has come, with what say writes.
func listener(t testing.TB, say func(c net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = bufio.NewReader(c).ReadString('\n')
				say(c)
			}()
		}
	}()
	return l.Addr().String()
}

func saying(text string) func(net.Conn) {
	return func(c net.Conn) { _, _ = io.WriteString(c, text) }
}

// silent says a text and nothing more, but stays.
func silent(text string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, text)
		_, _ = io.Copy(io.Discard, c)
	}
}

// Each says what is wrong, where, and what to do.
func TestCommandsTellWhoElseAnswers(t *testing.T) {
	t.Parallel()
	p := harness.StartProxy(t, harness.Options{Config: deadRoute(t)})
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that do not trust it
	secure.StartTLS()
	t.Cleanup(secure.Close)
	folder := t.TempDir()
	file := func(name, content string) string {
		t.Helper()
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n{\"status\":"
	page := func(body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
		t.Cleanup(s.Close)
		return s.URL
	}
	for name, c := range map[string]struct {
		args   string
		status int
		want   []string
	}{
		"TLS":                  {"status --admin http://" + secure.Listener.Addr().String(), 1, []string{"uses TLS", "--admin https://", "--ca-file"}},
		"no TLS":               {"status --admin https://" + strings.TrimPrefix(p.AdminURL, "http://"), 1, []string{"does not use TLS", "--admin http://"}},
		"unknown authority":    {"status --admin " + secure.URL, 1, []string{"certificate", "--ca-file FILE"}},
		"no answer":            {"status --timeout 200ms --admin " + listener(t, silent("")), 1, []string{"no response within 200ms", "--timeout"}},
		"half an answer":       {"status --timeout 200ms --admin " + listener(t, silent(head)), 1, []string{"no complete response within 200ms", "--timeout"}},
		"no answer to watch":   {"status --watch --timeout 200ms --admin " + listener(t, silent("")), 1, []string{"no response within 200ms"}},
		"broken off":           {"status --admin " + listener(t, saying(head)), 1, []string{"sent an incomplete response: unexpected EOF", "log"}},
		"closed":               {"status --admin " + listener(t, saying("")), 1, []string{"no response", "EOF", "admin.listen"}},
		"no HTTP":              {"status --admin " + listener(t, saying("SSH-2.0-\x1b[31mOpenSSH\r\n")), 1, []string{"no response", "SSH-2.0", "admin.listen"}},
		"no JSON":              {"status --admin " + page("<html>"), 1, []string{"is not the admin API of cbproxy", "admin.listen"}},
		"other JSON":           {"status --exit-code --admin " + page(`{"status":"green"}`), 1, []string{"is not the admin API of cbproxy", "admin.listen"}},
		"JSON of another kind": {"force rag open --admin " + page(`[1]`), 1, []string{"this version cannot decode"}},
		"the data plane":       {"status --admin " + p.URL, 1, []string{"no route has a prefix", "and not the data plane?", "admin.listen"}},
		"nobody":               {"queue list --admin " + harness.FreeAddress(t), 1, []string{"connection refused", "Is it running there?", "CBPROXY_ADMIN"}},
		"no socket":            {"status --admin unix://" + folder + "/none.sock", 1, []string{"no such file", "unix://" + folder, "Is it running there?"}},
		"empty token file":     {"status --token-file " + file("empty", "\n"), 2, []string{"--token-file", "contains no token"}},
		"two tokens":           {"status --token-file " + file("two", "a-secret\nb-secret\n"), 2, []string{"--token-file", "line break"}},
		"health: TLS":          {"healthcheck --admin http://" + secure.Listener.Addr().String(), 1, []string{"400 Bad Request: Client sent an HTTP request to an HTTPS server"}},
		"health: usage":        {"healthcheck --admin ftp://x", 2, []string{"--admin"}},
		"health: no time":      {"healthcheck --timeout 0s", 2, []string{"--timeout"}},
		"list: no service":     {"queue list --service rog --admin " + p.AdminURL, 1, []string{`no service is named "rog"`}},
		"drop: nobody there":   {"queue drop a.1 a.2 a.3 --admin " + harness.FreeAddress(t), 1, []string{"a.1: no response", "The other 2 were not tried"}},
		"drop: none is known":  {"queue drop a.1 a.2 --token-file " + file("token", harness.AdminToken) + " --admin " + p.AdminURL, 1, []string{`"a.1"`, `"a.2"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, out, stderr := harness.RunCommand(t, strings.Fields(c.args)...)
			if status != c.status || out != "" || strings.Contains(stderr, "\x1b") || strings.Contains(stderr, "secret") {
				t.Errorf("exit status %d, want %d: %q, %q", status, c.status, out, stderr)
			}
			for _, want := range c.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("no %q in %q", want, stderr)
				}
			}
		})
	}
}

func TestCommandsTellWhichVariableIsWrong(t *testing.T) {
	t.Parallel()
	for variable, says := range map[string]string{"CBPROXY_ADMIN=ftp://x": "CBPROXY_ADMIN: must be http://", "CBPROXY_ADMIN_TOKEN=a\nb-secret": "CBPROXY_ADMIN_TOKEN: the token contains"} {
		c := exec.Command(harness.Binary, "status")
		c.Env = append(os.Environ(), variable)
		out, err := c.CombinedOutput()
		if !harness.IsExitError(err) || c.ProcessState.ExitCode() != 2 || !strings.HasPrefix(string(out), says) || strings.Contains(string(out), "secret") {
			t.Errorf("%q: %v, %s", variable, err, out)
		}
	}
}

// What can't be written was not printed, and is no fault of the command line.
func TestCommandsThatCannotPrintFail(t *testing.T) {
	t.Parallel()
	p := harness.StartProxy(t, harness.Options{Config: deadRoute(t)})
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, args := range []string{
		"version", "schema", "completion bash", "check --config ../../../config.example.yaml", "status", "status rag", "status -o json", "queue list", "force rag auto", "force rag auto -o json",
	} {
		var stderr bytes.Buffer
		c := exec.Command(harness.Binary, strings.Fields(args)...)
		c.Env = append(os.Environ(), harness.ExitWithoutDelay, "CBPROXY_ADMIN="+p.AdminURL, "CBPROXY_ADMIN_TOKEN="+harness.AdminToken+"\n") // as a file read into a variable may end
		c.Stdout, c.Stderr = full, &stderr
		if err := c.Run(); err != nil && !harness.IsExitError(err) {
			t.Fatal(err)
		}
		if status := c.ProcessState.ExitCode(); status != 1 || !strings.Contains(stderr.String(), "no space left") || strings.Contains(stderr.String(), "--help") {
			t.Errorf("%s: exit status %d, %s", args, status, &stderr)
		}
	}
}

// What a shell offers is what may stand there, and files only where one may.
func TestCompletionOffersWhatMayStandThere(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(u.Upstream, "")})
	p.MustQueue("a")
	_, requests := p.Queue()
	const none, files = ":4\n", ":0\n"
	for args, want := range map[string][]string{
		"status":                          {"svc\n", none},
		"status svc":                      {none},
		"force svc":                       {"half-open\n", none},
		"queue":                           {"list\t", "drop\t", none},
		"queue list --service":            {"svc\n", none},
		"queue list --state":              {"dead\n", none},
		"queue drop":                      {requests[0].ID + "\twaiting, POST /svc/a\n", none},
		"queue retry " + requests[0].ID:   {none},
		"status --token-file":             {files},
		"status --ca-file":                {files},
		"status -o":                       {"json\n", none},
		"run --config":                    {"yaml\n", ":8\n"},
		"check --config":                  {"yaml\n", ":8\n"},
		"run --log-level":                 {"debug\n", none},
		"version":                         {none},
		"demo":                            {none},
		"status --admin 127.0.0.1:1 --":   {"--watch\t", none},
		"status --admin " + p.URL + " -o": {"table\n", none},
	} {
		c := exec.Command(harness.Binary, append(append([]string{"__complete"}, strings.Fields(args)...), "")...)
		if strings.HasSuffix(args, " --") {
			c.Args = c.Args[:len(c.Args)-1]
		}
		c.Env = append(os.Environ(), "CBPROXY_ADMIN="+p.AdminURL, harness.ExitWithoutDelay)
		start := time.Now()
		out, err := c.Output()
		if err != nil || time.Since(start) > harness.EventTimeout {
			t.Errorf("%s: %v", args, err)
		}
		for _, text := range want {
			if !strings.Contains(string(out), text) || strings.Count(string(out), "\n") == 1 && len(want) > 1 {
				t.Errorf("%s: no %q in %q", args, text, out)
			}
		}
		if id := requests[0].ID; strings.Contains(args, id) && strings.Contains(string(out), id) {
			t.Errorf("%s: offered again: %q", args, out)
		}
	}
}
