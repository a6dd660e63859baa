package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

// simulated is what the command simulate tells about a service.
type simulated struct {
	Calls, Failures, Unknown int
	Config                   struct {
		Openings, Refused int
		Transitions       []struct {
			Time            time.Time
			From, To, Cause string
		}
	}
}

// simulate runs the command with a configuration on the record of a running proxy.
func simulateRecord(t *testing.T, p *harness.Proxy, config string) map[string]simulated {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), harness.Binary(), "simulate", "--config", file, "--admin", p.AdminURL, "-o", "json")
	output, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	var report struct{ Services map[string]simulated }
	if err := json.Unmarshal(output, &report); err != nil {
		t.Fatal(err)
	}
	return report.Services
}

// shadowRun sends requests that fail at random, until each breaker has opened twice, through breakers in shadow mode, whose record has the result of every call, and returns
// what the breakers did and what they would have done in a simulation of that record.
func shadowRun(t *testing.T, seed uint64) (real, wouldHave map[string]string) {
	u := startStatusUpstream(t)
	breakers := map[string]string{
		"consecutive": "fail_max: 3, recovery_timeout: 100ms, half_open_requests: 2",
		"ratio":       "fail_max: 0, failure_ratio: 0.4, min_requests: 5, window: 200ms, recovery_timeout: 150ms",
		"count":       "algorithm: count, fail_max: 0, failure_ratio: 0.5, min_requests: 6, count: {calls: 12}, recovery_timeout: 120ms",
		"backoff":     "fail_max: 2, recovery_timeout: 100ms, recovery_backoff: {multiplier: 1.5, max: 300ms, jitter: 0}",
	}
	config := "defaults: {breaker: {mode: shadow, recovery_backoff: {jitter: 0}}}\nroutes:\n"
	for name, keys := range breakers {
		config += fmt.Sprintf("  %s: {prefix: /%s, upstream: %q, breaker: {%s}}\n", name, name, u.URL(), keys)
	}
	p := harness.StartProxy(t, harness.Options{Config: config})
	random := rand.New(rand.NewPCG(seed, 1))
	openedTwice := func() bool {
		for name := range breakers {
			opened := 0
			for _, c := range p.History(name) {
				if c.To == "open" {
					opened++
				}
			}
			if opened < 2 {
				return false
			}
		}
		return true
	}
	calls := 0
	for begin := time.Now(); calls < 600 || calls%200 != 0 || !openedTwice() && time.Since(begin) < harness.EventTimeout; calls++ {
		for name := range breakers {
			status, share := http.StatusOK, 0.1
			if calls/100%2 == 1 {
				share = 0.8
			}
			if random.Float64() < share {
				status = http.StatusServiceUnavailable
			}
			p.Get(fmt.Sprintf("/%s/%d", name, status))
		}
	}
	real, wouldHave = map[string]string{}, map[string]string{}
	services := simulateRecord(t, p, config)
	for name := range breakers {
		var steps, simulatedSteps []string
		for _, c := range p.History(name) { // newest first
			steps = append([]string{c.From + ">" + c.To + " " + c.Cause}, steps...)
		}
		s := services[name]
		for _, c := range s.Config.Transitions {
			simulatedSteps = append(simulatedSteps, c.From+">"+c.To+" "+c.Cause)
		}
		if s.Calls != calls || s.Unknown != 0 {
			t.Errorf("%s: %d calls are recorded, %d of them unknown", name, s.Calls, s.Unknown)
		}
		// The last opening may end after the last call.
		if n := len(steps); n == len(simulatedSteps)+1 && strings.HasPrefix(steps[n-1], "open>") {
			steps = steps[:n-1]
		}
		real[name], wouldHave[name] = strings.Join(steps, "\n"), strings.Join(simulatedSteps, "\n")
	}
	return real, wouldHave
}

// A breaker in shadow mode does what the simulation of its record says, to the call. Within some 100 ns around the end of an opening the
// record does not tell whether a call was before or after it, so a run that differs is repeated.
func TestSimulationMatchesTheRunningProxy(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		real, wouldHave := shadowRun(t, seed)
		differs := ""
		for name := range real {
			if real[name] != wouldHave[name] {
				differs += fmt.Sprintf("%s did\n%s\nthe simulation\n%s\n", name, real[name], wouldHave[name])
			} else if strings.Count(real[name], ">open") < 2 {
				t.Errorf("%s opened fewer than two times:\n%s", name, real[name])
			}
		}
		if differs == "" || t.Failed() {
			return
		}
		t.Log(differs)
	}
	t.Error("three runs differ from their simulations")
}

// The admin API answers what the command does with an edited file, byte by byte but for the indentation.
func TestSimulateOverAPIAnswersAsTheCommand(t *testing.T) {
	t.Parallel()
	u := startStatusUpstream(t)
	const running, edited = "fail_max: 4, recovery_timeout: 50ms, recovery_backoff: {multiplier: 2}", "fail_max: 2, recovery_timeout: 20ms, algorithm: count, failure_ratio: 0.3, min_requests: 5, count: {calls: 20}, recovery_backoff: {max: 30s, multiplier: 2}"
	config := func(breaker string) string {
		return fmt.Sprintf("routes: {a: {prefix: /a, upstream: %q, breaker: {%s}}, b: {prefix: /b, upstream: %q}}\n", u.URL(), breaker, u.URL())
	}
	p := harness.StartProxy(t, harness.Options{Config: config(running)})
	overAPI := func(service string) string {
		body := fmt.Sprintf(`{"service": %q, "since": "1h", "breaker": {"fail_max": 2, "recovery_timeout": 0.02, "algorithm": "count", "failure_ratio": 0.3,
			"min_requests": 5, "count": {"calls": 20}, "recovery_backoff": {"max": "30s"}}}`, service)
		r := callAdmin(p, simulateOperation, "", "", withBody(body))
		if r.Status != http.StatusOK {
			t.Fatalf("%+v", r)
		}
		return strings.TrimSpace(r.Body)
	}
	files := t.TempDir()
	for name, content := range map[string]string{"edited.yaml": config(edited), "running.yaml": config(running)} {
		if err := os.WriteFile(filepath.Join(files, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	byCommand := func(service string) string {
		c := exec.CommandContext(t.Context(), harness.Binary(), "simulate", "--config", "edited.yaml", "--against", "running.yaml", "--service", service, "--since", "1h",
			"--admin", p.AdminURL, "-o", "json")
		c.Dir = files
		output, err := c.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, output); err != nil {
			t.Fatal(err)
		}
		return compact.String()
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 400 {
		status := http.StatusOK
		if random.Float64() < []float64{0.05, 0.8}[i/100%2] {
			status = http.StatusServiceUnavailable
		}
		p.Get(fmt.Sprintf("/a/%d", status))
	}
	got, want := overAPI("a"), byCommand("a")
	if got != want {
		t.Errorf("the API answers\n%s\nthe command\n%s", got, want)
	}
	var report struct{ Services map[string]simulated }
	if err := json.Unmarshal([]byte(got), &report); err != nil || report.Services["a"].Calls != 400 || report.Services["a"].Config.Openings == 0 {
		t.Errorf("%v, %s", err, got)
	}
	if got, want := overAPI("b"), byCommand("b"); got != want || got != `{"services":{}}` {
		t.Errorf("without calls: the API answers %s, the command %s", got, want)
	}
}
