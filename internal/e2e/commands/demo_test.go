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
	t                      testing.TB
	proxy, admin, switches string // URLs
	temporary              string // its folder for temporary files
	out                    *harness.LogBuffer
}

func startDemo(t testing.TB, flags ...string) *demoProcess {
	t.Helper()
	return startDemoWith(t, nil, flags...)
}

// startDemoWith also gives it variables.
func startDemoWith(t testing.TB, environment []string, flags ...string) *demoProcess {
	t.Helper()
	listen, admin, switches := harness.FreeAddress(t), harness.FreeAddress(t), harness.FreeAddress(t)
	d := &demoProcess{t: t, proxy: "http://" + listen, admin: "http://" + admin, switches: "http://" + switches, temporary: t.TempDir(), out: new(harness.LogBuffer)}
	d.Process = harness.StartProcess(t, append(environment, "TMPDIR="+d.temporary), d.out, d.out,
		append([]string{"demo", "--listen", listen, "--admin", admin, "--switches", switches}, flags...)...)
	t.Cleanup(func() {
		d.Kill()
		harness.CheckLog(t, "the demo", d.out)
	})
	return d
}

func (d *demoProcess) says(text string) {
	d.t.Helper()
	harness.Eventually(d.t, "the demo says "+text, func() bool {
		select {
		case <-d.Exited:
			d.t.Fatalf("it ended with %d", d.ExitStatus)
		default:
		}
		return strings.Contains(d.out.String(), text)
	})
}

// end ends the demo as Ctrl-C does, and looks for what it leaves behind.
func (d *demoProcess) end() {
	d.t.Helper()
	d.Signal(syscall.SIGINT)
	d.ends()
}

// ends waits for the end, and looks for what the demo leaves behind.
func (d *demoProcess) ends() {
	d.t.Helper()
	if status := d.Wait(); status != 0 {
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
		"Dashboard  " + d.admin, "200 OK\n    {\"linked_explanation\":\"Door 7", "(fallback: static, reason: open)", "202 Accepted (fallback: queue, reason: open)",
		"Slow responses open the breaker", "its breaker closed", "queue: 0 waiting", "end of the tour",
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
	p := &harness.Proxy{T: t, AdminURL: d.admin, URL: d.proxy}
	harness.Eventually(t, "the proxy serves", func() bool {
		res, err := http.Get(d.admin + "/readyz")
		return err == nil && harness.ReadResponse(t, res, err).Status == 200
	})
	flip := func(what string) harness.Response {
		res, err := http.Post(d.switches+what, "", nil)
		return harness.ReadResponse(t, res, err)
	}
	if r := flip("/vms_service/errors"); r.Status != 200 || r.Body != "vms_service: errors\n" {
		t.Errorf("%+v", r)
	}
	harness.Eventually(t, "its traffic opens the breaker", func() bool { return p.Health().Services["vms_service"].State == "open" })
	for what, want := range map[string]int{"/vms_service/odd": 400, "/none/dead": 404} {
		if r := flip(what); r.Status != want {
			t.Errorf("%s: %+v", what, r)
		}
	}
	if res, err := http.Get(d.switches); err != nil || !strings.Contains(harness.ReadResponse(t, res, err).Body, `formaction="/vms_service/errors" aria-pressed="true"`) {
		t.Errorf("the page of switches: %v", err)
	}
	if r := flip("/vms_service/fine"); r.Status != 200 {
		t.Errorf("%+v", r)
	}
	harness.Eventually(t, "a probe closes it", func() bool { return p.Health().Services["vms_service"].State == "closed" })
	d.end()
}

// Whoever is impatient, or closes the window, gets the same: the demo ends and leaves nothing behind.
func TestDemoEndsInGoodOrder(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		flags   []string
		after   string // is said before the signals come; "": as soon as there is something to leave behind
		signals []syscall.Signal
	}{
		"at once":              {nil, "", []syscall.Signal{syscall.SIGINT}},
		"before it serves":     {nil, "Ctrl-C", []syscall.Signal{syscall.SIGTERM}},
		"by an impatient one":  {[]string{"--tour", "--pause", "10ms"}, "The RAG process dies", []syscall.Signal{syscall.SIGINT, syscall.SIGINT, syscall.SIGINT}},
		"as the window closes": {[]string{"--tour", "--pause", "1m"}, "Five services are called", []syscall.Signal{syscall.SIGHUP}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := startDemo(t, c.flags...)
			if c.after != "" {
				d.says(c.after)
			}
			harness.Eventually(t, "it has begun", func() bool { left, err := os.ReadDir(d.temporary); return err == nil && len(left) > 0 })
			for _, s := range c.signals {
				_ = d.Cmd.Process.Signal(s) // it may have ended by the ones before
			}
			d.ends()
		})
	}
}

// cbproxy demo --tour | head
func TestDemoEndsWhenNobodyReadsAnyMore(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	temporary, log := t.TempDir(), new(harness.LogBuffer)
	d := &demoProcess{t: t, temporary: temporary, out: log}
	d.Process = harness.StartProcess(t, []string{"TMPDIR=" + temporary}, w, log, "demo", "--tour", "--pause", "10ms",
		"--listen", harness.FreeAddress(t), "--admin", harness.FreeAddress(t), "--switches", harness.FreeAddress(t))
	t.Cleanup(d.Process.Stop)
	_ = w.Close()
	if line, err := bufio.NewReader(r).ReadString('\n'); err != nil || !strings.HasPrefix(line, "Dashboard") {
		t.Errorf("%q, %v", line, err)
	}
	_ = r.Close()
	d.ends()
}

// A shell's variables are for another proxy, whose fleet must not hear of what breaks here.
func TestDemoTakesNoPartInAFleet(t *testing.T) {
	t.Parallel()
	d := startDemoWith(t, []string{"REDIS_URL=redis://127.0.0.1:1", "CIRCUIT_BREAKER_RAG_FAIL_MAX=99", "CIRCUIT_BREAKER_BILLING_TIMEOUT=3", "CBPROXY_ADMIN_TOKEN=" + harness.AdminToken})
	d.says("its token: " + harness.AdminToken)
	p := &harness.Proxy{T: t, AdminURL: d.admin, URL: d.proxy}
	harness.Eventually(t, "the proxy serves", func() bool {
		res, err := http.Get(d.admin + "/readyz")
		return err == nil && harness.ReadResponse(t, res, err).Status == 200
	})
	if h := p.Health(); h.Redis.Configured || h.Services["rag_service"].Configuration.FailMax != 5 {
		t.Errorf("%+v", h)
	}
	d.end()
}
