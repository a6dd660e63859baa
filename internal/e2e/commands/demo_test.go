package commands

import (
	"bufio"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// demoProcess is a running `cbproxy demo`.
type demoProcess struct {
	*harness.Process
	t        testing.TB
	proxy    *harness.Proxy // the proxy of the demo
	switches string         // URL of the switches that make upstreams fail
	tempDir  string         // TMPDIR of the process
	out      *harness.LogBuffer
}

// startDemo starts `cbproxy demo` with unused addresses, and stops it at the end of the test. environment is added to
// that of the tests. It fails the test if the demo reports a data race or a panic.
func startDemo(t testing.TB, environment []string, flags ...string) *demoProcess {
	t.Helper()
	listen, admin, switches := harness.FreeAddress(t), harness.FreeAddress(t), harness.FreeAddress(t)
	d := &demoProcess{
		t: t, proxy: &harness.Proxy{T: t, URL: "http://" + listen, AdminURL: "http://" + admin},
		switches: "http://" + switches, tempDir: t.TempDir(), out: new(harness.LogBuffer),
	}
	d.Process = harness.StartProcess(t, append(environment, "TMPDIR="+d.tempDir), d.out, d.out,
		append([]string{"demo", "--listen", listen, "--admin", admin, "--switches", switches}, flags...)...)
	t.Cleanup(func() {
		d.Kill()
		harness.CheckLog(t, "the demo", d.out)
	})
	return d
}

// awaitText waits until the demo has printed text. It fails the test if the process exits.
func (d *demoProcess) awaitText(text string) {
	d.t.Helper()
	harness.Eventually(d.t, "the demo prints "+text, func() bool {
		select {
		case <-d.Exited:
			d.t.Fatalf("the demo exited with status %d", d.ExitStatus)
		default:
		}
		return strings.Contains(d.out.String(), text)
	})
}

// awaitReady waits until the proxy of the demo is ready.
func (d *demoProcess) awaitReady() {
	d.t.Helper()
	harness.Eventually(d.t, "the proxy is ready", func() bool {
		res, err := http.Get(d.proxy.AdminURL + "/readyz")
		return err == nil && harness.ReadResponse(d.t, res, err).Status == 200
	})
}

// awaitState waits until the breaker of a service is in a state.
func (d *demoProcess) awaitState(service, state string) {
	d.t.Helper()
	harness.Eventually(d.t, service+" is "+state, func() bool { return d.proxy.Health().Services[service].State == state })
}

// setSwitch posts to the path of a switch.
func (d *demoProcess) setSwitch(path string) harness.Response {
	d.t.Helper()
	res, err := http.Post(d.switches+path, "", nil)
	return harness.ReadResponse(d.t, res, err)
}

// interrupt sends SIGINT, as Ctrl-C does, and checks the exit.
func (d *demoProcess) interrupt() {
	d.t.Helper()
	d.Signal(syscall.SIGINT)
	d.checkExit()
}

// checkExit waits until the demo exits, and checks that the status is 0 and that no temporary file is left.
func (d *demoProcess) checkExit() {
	d.t.Helper()
	if status := d.Wait(); status != 0 {
		d.t.Errorf("exit status %d", status)
	}
	if left, err := os.ReadDir(d.tempDir); err != nil || len(left) > 0 {
		d.t.Errorf("temporary files left: %v, %v", left, err)
	}
}

func TestDemoTourShowsFailureAndRecovery(t *testing.T) {
	t.Parallel()
	d := startDemo(t, nil, "--tour", "--pause", "10ms")
	for _, text := range []string{
		"Dashboard  " + d.proxy.AdminURL, "200 OK\n    {\"linked_explanation\":\"Door 7", "(fallback: static, reason: open)", "202 Accepted (fallback: queue, reason: open)",
		"Slow responses open the breaker", "its breaker closed", "queue: 0 waiting", "end of the tour",
	} {
		d.awaitText(text)
	}
	if !strings.HasPrefix(d.out.String(), "Dashboard  ") {
		t.Error("the output does not begin with the address of the dashboard")
	}
	d.interrupt()
}

func TestDemoSwitchesControlUpstreams(t *testing.T) {
	t.Parallel()
	d := startDemo(t, nil)
	d.awaitText("Ctrl-C")
	d.awaitReady()
	if r := d.setSwitch("/vms_service/errors"); r.Status != 200 || r.Body != "vms_service: errors\n" {
		t.Errorf("set errors: %+v", r)
	}
	d.awaitState("vms_service", "open") // because of the traffic that the demo generates
	for path, want := range map[string]int{"/vms_service/odd": 400, "/none/dead": 404} {
		if r := d.setSwitch(path); r.Status != want {
			t.Errorf("POST %s: %+v, want status %d", path, r, want)
		}
	}
	res, err := http.Get(d.switches)
	if r := harness.ReadResponse(t, res, err); !strings.Contains(r.Body, `formaction="/vms_service/errors" aria-pressed="true"`) {
		t.Errorf("the page of switches does not show that errors is set: %+v", r)
	}
	if r := d.setSwitch("/vms_service/fine"); r.Status != 200 {
		t.Errorf("set fine: %+v", r)
	}
	d.awaitState("vms_service", "closed")
	d.interrupt()
}

// TestDemoExitsCleanlyOnSignals checks that the demo removes its temporary files whenever it gets a signal, and however
// many it gets.
func TestDemoExitsCleanlyOnSignals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		flags   []string
		after   string // output to wait for before the signals; "": only for the first temporary file
		signals []syscall.Signal
	}{
		"SIGINT at once":               {nil, "", []syscall.Signal{syscall.SIGINT}},
		"SIGTERM after the first text": {nil, "Ctrl-C", []syscall.Signal{syscall.SIGTERM}},
		"three SIGINTs in the tour":    {[]string{"--tour", "--pause", "10ms"}, "The RAG process dies", []syscall.Signal{syscall.SIGINT, syscall.SIGINT, syscall.SIGINT}},
		"SIGHUP in a pause":            {[]string{"--tour", "--pause", "1m"}, "Five services are called", []syscall.Signal{syscall.SIGHUP}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := startDemo(t, nil, c.flags...)
			if c.after != "" {
				d.awaitText(c.after)
			}
			harness.Eventually(t, "there is a temporary file", func() bool { left, err := os.ReadDir(d.tempDir); return err == nil && len(left) > 0 })
			for _, s := range c.signals {
				_ = d.Cmd.Process.Signal(s) // fails if an earlier signal has ended the process
			}
			d.checkExit()
		})
	}
}

// TestDemoExitsCleanlyOnClosedPipe checks `cbproxy demo --tour | head -1`.
func TestDemoExitsCleanlyOnClosedPipe(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	d := &demoProcess{t: t, tempDir: t.TempDir(), out: new(harness.LogBuffer)}
	d.Process = harness.StartProcess(t, []string{"TMPDIR=" + d.tempDir}, w, d.out, "demo", "--tour", "--pause", "10ms",
		"--listen", harness.FreeAddress(t), "--admin", harness.FreeAddress(t), "--switches", harness.FreeAddress(t))
	t.Cleanup(d.Process.Stop)
	_ = w.Close()
	if line, err := bufio.NewReader(r).ReadString('\n'); err != nil || !strings.HasPrefix(line, "Dashboard") {
		t.Errorf("first line %q, %v", line, err)
	}
	_ = r.Close()
	d.checkExit()
}

// TestDemoIgnoresConfigurationInEnvironment checks that the demo uses no variables that configure another proxy, whose
// fleet must not get the states of the demo. It does use the admin token.
func TestDemoIgnoresConfigurationInEnvironment(t *testing.T) {
	t.Parallel()
	d := startDemo(t, []string{"REDIS_URL=redis://127.0.0.1:1", "CIRCUIT_BREAKER_RAG_FAIL_MAX=99", "CIRCUIT_BREAKER_BILLING_TIMEOUT=3", "CBPROXY_ADMIN_TOKEN=" + harness.AdminToken})
	d.awaitText("its token: " + harness.AdminToken)
	d.awaitReady()
	if h := d.proxy.Health(); h.Redis.Configured || h.Services["rag_service"].Configuration.FailMax != 5 {
		t.Errorf("health %+v, want no Redis and fail_max 5", h)
	}
	d.interrupt()
}
