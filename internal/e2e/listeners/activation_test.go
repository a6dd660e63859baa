package listeners

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// manager starts cbproxy with sockets, as systemd does.
type manager struct {
	t       *testing.T
	config  string
	log     harness.LogBuffer
	sockets []*os.File
	names   []string
}

// newManager returns a manager without sockets, for a configuration with the service svc below /svc.
func newManager(t *testing.T, upstream, listen, admin string) *manager {
	t.Helper()
	m := &manager{t: t, config: filepath.Join(t.TempDir(), "config.yaml")}
	text := fmt.Sprintf("listen: %s\nadmin: {listen: %s}\ndata_dir: ''\nroutes: {svc: {prefix: /svc, upstream: %q}}\n", listen, admin, upstream)
	if err := os.WriteFile(m.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { harness.CheckLog(t, "cbproxy", &m.log) })
	return m
}

// add opens a socket that is passed with a name.
func (m *manager) add(network, address, name string) (opened string) {
	m.t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = l.Close() })
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = f.Close() })
	m.sockets, m.names = append(m.sockets, f), append(m.names, name)
	return l.Addr().String()
}

// start starts cbproxy. It is killed at the end of the test.
func (m *manager) start() *exec.Cmd {
	m.t.Helper()
	// LISTEN_PID is the process itself, which execve keeps.
	c := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh", harness.Binary(), "run", "--config", m.config, "--log-format", "json")
	c.Env = append(harness.WithoutTelemetry(os.Environ()), harness.ExitWithoutDelay,
		fmt.Sprint("LISTEN_FDS=", len(m.sockets)), "LISTEN_FDNAMES="+strings.Join(m.names, ":"))
	c.ExtraFiles, c.Stderr = m.sockets, &m.log
	if err := c.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	return c
}

// wait waits until the process has exited. After harness.EventTimeout it kills the process, whose exit status is then -1.
func wait(c *exec.Cmd) error {
	timer := time.AfterFunc(harness.EventTimeout, func() { _ = c.Process.Kill() })
	defer timer.Stop()
	return c.Wait()
}

// awaitReady waits until the proxy with an admin address is ready.
func awaitReady(t *testing.T, admin string) {
	t.Helper()
	harness.Eventually(t, "the proxy is ready", func() bool {
		res, err := http.Get("http://" + admin + "/readyz")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}

// TestRestartWithPassedSocketRefusesNoConnection restarts the proxy twice under load, while the socket stays open. No request may fail.
func TestRestartWithPassedSocketRefusesNoConnection(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	admin := harness.FreeAddress(t)
	m := newManager(t, u.URL(), "127.0.0.1:1", admin) // a port that is reserved, so that no process listens there
	address := m.add("tcp", "127.0.0.1:0", "listen")
	running := m.start()
	awaitReady(t, admin)
	l := startLoad(t, "http://"+address+"/svc/x")
	for range 2 {
		before := l.sent.Load()
		harness.Eventually(t, "requests are served", func() bool { return l.sent.Load() > before+100 || t.Failed() })
		if err := running.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := wait(running); err != nil {
			t.Fatalf("%v\n%s", err, &m.log)
		}
		running = m.start()
		awaitReady(t, admin)
	}
	before := l.sent.Load()
	harness.Eventually(t, "requests are served", func() bool { return l.sent.Load() > before+100 || t.Failed() })
	l.stop()
}

// TestPassedSocketsReplaceConfiguredAddresses checks that sockets named listen and admin are used instead of the configured
// addresses, that a Unix socket is left at exit, and that the variables are unset.
func TestPassedSocketsReplaceConfiguredAddresses(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	configured := harness.FreeAddress(t)
	m := newManager(t, u.URL(), configured, configured[:strings.Index(configured, ":")]+":2")
	admin := m.add("tcp", "127.0.0.1:0", "admin")
	socket := filepath.Join(t.TempDir(), "s")
	m.add("unix", socket, "listen")
	address := m.add("tcp", "127.0.0.1:0", "listen") // a second one
	running := m.start()
	awaitReady(t, admin)
	if r := get(t, newClient(t), "http://"+address+"/svc"); r.Status != 200 {
		t.Errorf("TCP: %+v", r)
	}
	if r := get(t, unixClient(socket), "http://a/svc"); r.Status != 200 {
		t.Errorf("Unix: %+v", r)
	}
	if isOpen(configured) {
		t.Error("the configured address is open")
	}
	if err := running.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := wait(running); err != nil {
		t.Errorf("%v\n%s", err, &m.log)
	}
	if !socketExists(socket) {
		t.Error("the socket that was passed has been removed")
	}
}

// TestSocketsOfOtherNames checks that the only socket of another name is used for listen, with a warning, and that several are
// refused.
func TestSocketsOfOtherNames(t *testing.T) {
	t.Parallel()
	u := harness.StartUpstream(t)
	admin := harness.FreeAddress(t)
	m := newManager(t, u.URL(), "127.0.0.1:1", admin)
	address := m.add("tcp", "127.0.0.1:0", "cbproxy.socket")
	running := m.start()
	awaitReady(t, admin)
	if r := get(t, newClient(t), "http://"+address+"/svc"); r.Status != 200 {
		t.Errorf("%+v", r)
	}
	if !strings.Contains(m.log.String(), `"name":"cbproxy.socket"`) || !strings.Contains(m.log.String(), "FileDescriptorName=listen") {
		t.Errorf("no warning:\n%s", &m.log)
	}
	_ = running.Process.Kill()
	_ = running.Wait()
	m.add("tcp", "127.0.0.1:0", "other")
	running = m.start()
	if err := wait(running); err == nil || running.ProcessState.ExitCode() != 2 || !strings.Contains(m.log.String(), "LISTEN_FDS has sockets of unknown names (cbproxy.socket, other)") {
		t.Errorf("two sockets of other names: %v\n%s", err, &m.log)
	}
}
