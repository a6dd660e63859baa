package queue

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// promise is what a client knows about a request that it sent.
type promise struct {
	body   string
	key    string // its Idempotency-Key, "" if it sent none
	status int    // of the response; 0 if the connection broke
	reason string // X-Fallback-Reason
}

// kept reports whether a response promised delivery of the request, or confirmed it.
func (p *promise) kept() bool { return p.status >= 200 && p.status < 300 }

// crowd is a set of clients. Each sends numbered requests in sequence and ignores errors.
type crowd struct {
	url     string
	stop    chan struct{}
	clients sync.WaitGroup

	mu   sync.Mutex
	made map[int][]promise // by client, in the order sent
}

func startCrowd(url string, n int) *crowd {
	c := &crowd{url: url, stop: make(chan struct{}), made: map[int][]promise{}}
	for id := range n {
		c.clients.Go(func() { c.run(id) })
	}
	return c
}

func (c *crowd) run(id int) {
	client := &http.Client{Transport: &http.Transport{}, Timeout: harness.EventTimeout}
	defer client.CloseIdleConnections()
	for n := 0; ; n++ {
		select {
		case <-c.stop:
			return
		default:
		}
		p := promise{body: fmt.Sprintf("%d/%d/", id, n)}
		if n%10 == 0 {
			p.body += strings.Repeat("x", rand.IntN(100_000))
		}
		if id%2 == 0 {
			p.key = fmt.Sprintf("key-%d-%d", id, n)
		}
		c.ask(client, &p)
		c.mu.Lock()
		c.made[id] = append(c.made[id], p)
		c.mu.Unlock()
		pause := rand.IntN(30) // lets the queue become empty
		if p.status == 0 {
			pause = 30 // the instance is down
		}
		time.Sleep(time.Duration(pause) * time.Millisecond)
	}
}

func (c *crowd) ask(client *http.Client, p *promise) {
	r, err := http.NewRequest(http.MethodPost, c.url, strings.NewReader(p.body))
	if err != nil {
		return
	}
	r.GetBody = nil // disables automatic retries by net/http, which the client cannot count
	if p.key != "" {
		r.Header.Set("Idempotency-Key", p.key)
	}
	res, err := client.Do(r)
	if err != nil {
		return
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err == nil {
		p.status, p.reason = res.StatusCode, res.Header.Get("X-Fallback-Reason")
	}
}

// end stops the clients and returns their results.
func (c *crowd) end() map[int][]promise {
	close(c.stop)
	c.clients.Wait()
	return c.made
}

// disturb kills, breaks and restarts the upstream until stop is closed.
func disturb(u *harness.Recorder, stop <-chan struct{}) {
	pause := func() { time.Sleep(time.Duration(20+rand.IntN(150)) * time.Millisecond) }
	for {
		select {
		case <-stop:
			return
		default:
		}
		pause()
		switch rand.IntN(3) {
		case 0:
			u.Kill()
			pause()
			u.Start()
		case 1:
			u.SetRules(harness.Rule{Status: 503})
			pause()
			u.SetRules()
		}
	}
}

// checkPromises compares the responses to clients with the requests that the upstream received.
func checkPromises(t *testing.T, made map[int][]promise, u *harness.Recorder) {
	t.Helper()
	first, times, keys := map[string]int{}, map[string]int{}, map[string]string{}
	for i, q := range u.Records() {
		if key, ok := keys[q.BodyText]; ok && q.Header.Get("X-Delivery-Attempt") != "" && key != q.Header.Get("Idempotency-Key") {
			t.Errorf("%.20q received with different Idempotency-Keys", q.BodyText)
		} else if q.Header.Get("X-Delivery-Attempt") != "" {
			keys[q.BodyText] = q.Header.Get("Idempotency-Key")
		}
		if !q.Succeeded() {
			continue
		}
		if times[q.BodyText]++; times[q.BodyText] == 1 {
			first[q.BodyText] = i
		}
	}
	sent, accepted, direct, broken, duplicates := 0, 0, 0, 0, 0
	for _, promises := range made {
		last := -1
		for _, p := range promises {
			sent++
			n := times[p.body]
			duplicates += max(n-1, 0)
			switch {
			case p.status == http.StatusAccepted:
				accepted++
			case p.kept():
				direct++
			case p.status == 0:
				broken++
			}
			if p.key != "" && keys[p.body] != "" && keys[p.body] != p.key {
				t.Errorf("%.20q received with key %q, sent with %q", p.body, keys[p.body], p.key)
			}
			switch {
			case p.kept() && n == 0:
				t.Errorf("%.20q was answered with %d and is lost", p.body, p.status)
			case p.kept() && first[p.body] < last:
				t.Errorf("%.20q was delivered out of order", p.body)
			case p.kept():
				last = first[p.body]
			case p.status != 0 && n > 0 && p.reason == "":
				t.Errorf("%.20q was refused with %d and delivered", p.body, p.status)
			}
			delete(times, p.body)
		}
	}
	for body := range times {
		t.Errorf("%.40q was delivered and never sent", body)
	}
	t.Logf("%d requests: %d queued, %d answered by the upstream, %d broken; %d duplicates", sent, accepted, direct, broken, duplicates)
	if accepted < 30 {
		t.Errorf("only %d requests were queued", accepted)
	}
}

// TestKilledProxyLosesNoAcceptedRequest checks that every request answered with 202 is delivered although
// the proxy and the upstream are killed at random times.
func TestKilledProxyLosesNoAcceptedRequest(t *testing.T) {
	t.Parallel()
	kills := 40
	if testing.Short() || os.Getenv("CI") == "" {
		kills = 12
	}
	u := harness.StartRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfigWithBreaker(u.Upstream, "fail_max: 2, recovery_timeout: 0.05", "max_attempts: 10000")})
	clients := startCrowd(p.URL+"/svc", 6)
	calm, disturbed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(disturbed)
		disturb(u, calm)
	}()
	for n := range kills {
		time.Sleep(time.Duration(20+rand.IntN(250)) * time.Millisecond) // a random time
		p.Kill()
		if n%4 == 0 { // kill this process during its start
			p.Launch()
			time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
			p.Kill()
		}
		p.Start()
	}
	made := clients.end()
	close(calm)
	<-disturbed
	u.SetRules()
	p.AwaitEmptyQueue()
	if s, _ := p.Queue(); s.Dead != 0 {
		t.Errorf("%d dead letters", s.Dead)
	}
	checkPromises(t, made, u)
	if strings.Contains(p.Log.String(), "set-aside") {
		t.Error("a kill has damaged a file")
	}
}

// syncs counts the lines written by strace.
func syncs(t *testing.T, trace string) int {
	t.Helper()
	content, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(content), "fdatasync(")
}

// startTraced starts the proxy under strace. Both are in one process group, so that one signal kills both.
func startTraced(p *harness.Proxy, options ...string) {
	p.T.Helper()
	args := append(options, harness.Binary, "run", "--config", p.ConfigFile)
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
		_ = command.Wait() // it was killed
		close(exited)
	}()
	p.T.Cleanup(func() { _ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }) // killing strace alone would leave the proxy running
}

func killTraced(p *harness.Proxy) {
	_ = syscall.Kill(-p.Cmd.Process.Pid, syscall.SIGKILL)
	<-p.Exited
}

// TestCrashDuringCommitLosesNoAcceptedRequest kills the proxy at each disk write of accepting and
// delivering requests, one write per subtest.
func TestCrashDuringCommitLosesNoAcceptedRequest(t *testing.T) {
	t.Parallel()
	if err := exec.Command("strace", "-f", "-o", os.DevNull, "true").Run(); err != nil {
		harness.SkipUnlessCI(t, "strace", err)
	}
	trace := filepath.Join(t.TempDir(), "trace")
	idle := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(idle.Upstream, "")})
	p.Kill()
	startTraced(p, "-f", "-e", "trace=fdatasync", "-o", trace)
	harness.Eventually(t, "it is ready", func() bool { return isReady(p) })
	before := syncs(t, trace)
	killTraced(p)
	points := 16
	if testing.Short() || os.Getenv("CI") == "" {
		points = 6
	}
	for n := range points {
		at := before + 1 + n*16/points
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
			harness.Eventually(t, "it dies, or delivers", func() bool { return hasExited(p) || len(u.SuccessfulBodies()) >= len(accepted) })
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

func hasExited(p *harness.Proxy) bool {
	select {
	case <-p.Exited:
		return true
	default:
		return false
	}
}

// answers reports whether the proxy is ready.
func isReady(p *harness.Proxy) bool {
	res, err := http.Get(p.AdminURL + "/readyz")
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// answersOrDies waits until the proxy is ready or has exited, and reports whether it is ready.
func awaitReadyOrExit(p *harness.Proxy) (ready bool) {
	p.T.Helper()
	harness.Eventually(p.T, "it is ready, or dead", func() bool { ready = isReady(p); return ready || hasExited(p) })
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
