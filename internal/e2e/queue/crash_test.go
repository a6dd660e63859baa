package queue

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"cbproxy/internal/e2e/harness"
	"cbproxy/internal/testenv"
)

// countSyncs returns the number of fdatasync calls in the output of strace.
func countSyncs(t *testing.T, trace string) int {
	t.Helper()
	content, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(content), "fdatasync(")
}

// startTraced starts the proxy under strace with the given options. Both are in one process group, so that one signal
// kills both.
func startTraced(p *harness.Proxy, options ...string) {
	p.T.Helper()
	args := append(options, harness.Binary(), "run", "--config", p.ConfigFile)
	command := exec.Command("strace", append(args, p.Flags...)...)
	command.Env = append(os.Environ(), p.Env...)
	command.Stderr = p.Log
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
		p.T.Fatal(err)
	}
	exited := make(chan struct{})
	p.Cmd, p.Exited = command, exited
	go func() {
		_ = command.Wait() // the error reports the kill
		close(exited)
	}()
	p.T.Cleanup(func() { _ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }) // killing strace alone would leave the proxy running
}

// killTraced kills the process group that startTraced has started.
func killTraced(p *harness.Proxy) {
	_ = syscall.Kill(-p.Cmd.Process.Pid, syscall.SIGKILL)
	<-p.Exited
}

// TestCrashDuringCommitLosesNoAcceptedRequest kills the proxy at each fdatasync call of accepting and delivering requests, one
// per subtest.
func TestCrashDuringCommitLosesNoAcceptedRequest(t *testing.T) {
	t.Parallel()
	if err := exec.Command("strace", "-f", "-o", os.DevNull, "true").Run(); err != nil {
		testenv.SkipUnlessCI(t, "strace", err)
	}
	trace := filepath.Join(t.TempDir(), "trace")
	stopped := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(stopped.Upstream, "")})
	p.Kill()
	startTraced(p, "-f", "-e", "trace=fdatasync", "-o", trace)
	harness.Eventually(t, "the proxy is ready", func() bool { return isReady(p) })
	syncsAtStart := countSyncs(t, trace)
	killTraced(p)
	points := 16
	if testing.Short() || os.Getenv("CI") == "" {
		points = 6
	}
	for n := range points {
		at := syncsAtStart + 1 + n*16/points
		t.Run(fmt.Sprintf("fdatasync_%d", at), func(t *testing.T) {
			t.Parallel()
			u := harness.NewRecorder(t)
			p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfigWithBreaker(u.Upstream, "fail_max: 2, recovery_timeout: 0.05", "")})
			p.Kill()
			startTraced(p, "-f", "-e", "trace=fdatasync", "-e", fmt.Sprintf("inject=fdatasync:signal=KILL:when=%d", at), "-o", os.DevNull)
			var accepted []string
			if awaitReadyOrExit(p) {
				for _, body := range harness.Numbered("m", 3) {
					if tryPost(p, body) == http.StatusAccepted {
						accepted = append(accepted, body)
					}
				}
			}
			u.Start()
			defer u.Kill()
			harness.Eventually(t, "the proxy is killed or has delivered all requests", func() bool { return hasExited(p) || len(u.SuccessfulBodies()) >= len(accepted) })
			killTraced(p)
			p.Start()
			p.AwaitEmptyQueue()
			delivered := u.SuccessfulBodies()
			for _, body := range accepted {
				if !slices.Contains(delivered, body) {
					t.Errorf("%s was accepted and is lost", body)
				}
			}
			t.Logf("accepted %q, delivered %q", accepted, delivered)
			var first []string
			for _, body := range delivered {
				if !slices.Contains(first, body) {
					first = append(first, body)
				}
			}
			if !slices.IsSorted(first) {
				t.Errorf("delivered %q out of order", delivered)
			}
		})
	}
}

// hasExited reports whether the process has exited.
func hasExited(p *harness.Proxy) bool {
	select {
	case <-p.Exited:
		return true
	default:
		return false
	}
}

// isReady reports whether the proxy responds to /readyz with 200.
func isReady(p *harness.Proxy) bool {
	res, err := http.Get(p.AdminURL + "/readyz")
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// awaitReadyOrExit waits until the proxy is ready or has exited, and reports whether it is ready.
func awaitReadyOrExit(p *harness.Proxy) (ready bool) {
	p.T.Helper()
	harness.Eventually(p.T, "the proxy is ready or has exited", func() bool { ready = isReady(p); return ready || hasExited(p) })
	return ready
}

// tryPost returns the status of the response to a request, or 0 if there was none.
func tryPost(p *harness.Proxy, body string) int {
	res, err := http.Post(p.URL+"/svc", "text/plain", strings.NewReader(body))
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return 0
	}
	return res.StatusCode
}
