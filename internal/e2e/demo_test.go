package e2e

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// demoProcess is a running `cbproxy demo`.
type demoProcess struct {
	t                      testing.TB
	proxy, admin, switches string // URLs
	temporary              string // its folder for temporary files
	out                    *logBuffer
	command                *exec.Cmd
	exited                 chan struct{}
}

func startDemo(t testing.TB, flags ...string) *demoProcess {
	t.Helper()
	listen, admin, switches := freeAddress(t), freeAddress(t), freeAddress(t)
	d := &demoProcess{
		t: t, proxy: "http://" + listen, admin: "http://" + admin, switches: "http://" + switches,
		temporary: t.TempDir(), out: new(logBuffer), exited: make(chan struct{}),
	}
	d.command = exec.Command(binary, append([]string{"demo", "--listen", listen, "--admin", admin, "--switches", switches}, flags...)...)
	d.command.Env = append(os.Environ(), "TMPDIR="+d.temporary)
	d.command.Stdout, d.command.Stderr = d.out, d.out
	if err := d.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = d.command.Wait() // the status tells
		close(d.exited)
	}()
	t.Cleanup(func() {
		_ = d.command.Process.Kill()
		<-d.exited
		if t.Failed() {
			t.Logf("the demo said:\n%s", d.out)
		}
	})
	return d
}

func (d *demoProcess) says(text string) {
	d.t.Helper()
	eventually(d.t, "the demo says "+text, func() bool {
		select {
		case <-d.exited:
			d.t.Fatalf("it ended with %v", d.command.ProcessState)
		default:
		}
		return strings.Contains(d.out.String(), text)
	})
}

// end ends the demo as Ctrl-C does, and looks for what it leaves behind.
func (d *demoProcess) end() {
	d.t.Helper()
	if err := d.command.Process.Signal(syscall.SIGINT); err != nil {
		d.t.Fatal(err)
	}
	<-d.exited
	if status := d.command.ProcessState.ExitCode(); status != 0 {
		d.t.Errorf("exit status %d", status)
	}
	if left, err := os.ReadDir(d.temporary); err != nil || len(left) > 0 {
		d.t.Errorf("it leaves %v behind, %v", left, err)
	}
}

func TestDemoTourShowsAFailureAndItsRecovery(t *testing.T) {
	t.Parallel()
	d := startDemo(t, "--tour", "--pause", "10ms")
	for _, text := range []string{
		"Dashboard  " + d.admin, "200 OK\n    {\"linked_explanation\":\"Door 7", "(fallback: static, because open)", "202 Accepted (fallback: queue, because open)",
		"Slow is as good as dead", "its breaker closed", "queue: 0 waiting", "That was the tour",
	} {
		d.says(text)
	}
	if !strings.HasPrefix(d.out.String(), "Dashboard  ") {
		t.Error("the dashboard's address is not what it says first")
	}
	d.end()
}

func TestDemoIsBrokenByItsSwitches(t *testing.T) {
	t.Parallel()
	d := startDemo(t)
	d.says("Ctrl-C")
	p := &proxyProcess{t: t, admin: d.admin, data: d.proxy}
	eventually(t, "the proxy serves", func() bool {
		res, err := http.Get(d.admin + "/readyz")
		return err == nil && read(t, res, err).status == 200
	})
	flip := func(what string) response {
		res, err := http.Post(d.switches+what, "", nil)
		return read(t, res, err)
	}
	if r := flip("/vms_service/errors"); r.status != 200 || r.body != "vms_service is errors\n" {
		t.Errorf("%+v", r)
	}
	eventually(t, "its traffic opens the breaker", func() bool { return p.health().Services["vms_service"].State == "open" })
	for what, want := range map[string]int{"/vms_service/odd": 400, "/none/dead": 404} {
		if r := flip(what); r.status != want {
			t.Errorf("%s: %+v", what, r)
		}
	}
	if res, err := http.Get(d.switches); err != nil || !strings.Contains(read(t, res, err).body, `formaction="/vms_service/errors" aria-pressed="true"`) {
		t.Errorf("the page of switches: %v", err)
	}
	if r := flip("/vms_service/fine"); r.status != 200 {
		t.Errorf("%+v", r)
	}
	eventually(t, "a probe closes it", func() bool { return p.health().Services["vms_service"].State == "closed" })
	d.end()
}

func TestDemoSaysWhichAddressIsTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for flag, says := range map[string]string{"--listen": "--listen and --admin", "--admin": "--listen and --admin", "--switches": "--switches takes"} {
		d := startDemo(t, flag, l.Addr().String())
		<-d.exited
		if status := d.command.ProcessState.ExitCode(); status != 1 || !strings.Contains(d.out.String(), says) || !strings.Contains(d.out.String(), "address already in use") {
			t.Errorf("%s: exit status %d: %s", flag, status, d.out)
		}
	}
}
