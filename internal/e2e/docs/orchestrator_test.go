package docs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"cbproxy/internal/e2e/harness"
)

// orchestration is the status that the example orchestrator prints.
type orchestration struct {
	Outcome  string
	Degraded []struct{ Service, By, Reason, Breaker, Error string }
	Context  json.RawMessage
	Rules    json.RawMessage
	Notified string
}

func (o orchestration) degraded() (services []string) {
	for _, d := range o.Degraded {
		services = append(services, d.Service)
	}
	return services
}

// buildExample builds examples/orchestrator and returns a function that runs it for one event. It fails the test if the
// run fails.
func buildExample(t *testing.T) func(p *harness.Proxy, event string) orchestration {
	t.Helper()
	program := filepath.Join(t.TempDir(), "orchestrator")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "cbproxy/examples/orchestrator").CombinedOutput(); err != nil {
		t.Fatalf("build examples/orchestrator: %v\n%s", err, out)
	}
	return func(p *harness.Proxy, event string) (o orchestration) {
		t.Helper()
		var out, errs bytes.Buffer
		command := exec.Command(program, "-proxy", p.URL, event)
		command.Stdout, command.Stderr = &out, &errs
		if err := command.Run(); err != nil {
			t.Errorf("%s: %v: %s", event, err, errs.String())
			return o
		}
		if err := json.Unmarshal(out.Bytes(), &o); err != nil {
			t.Errorf("%v: %s", err, out.String())
		}
		return o
	}
}

// TestOrchestrationAlwaysCompletes checks that the orchestrator completes if any one service is down, and determines from
// cbproxy's header fields which one it is.
func TestOrchestrationAlwaysCompletes(t *testing.T) {
	t.Parallel()
	rag, rules, notifier := harness.StartUpstream(t), harness.StartUpstream(t), harness.StartRecorder(t)
	run := buildExample(t)
	p := harness.StartProxy(t, harness.Options{Config: fmt.Sprintf(`
defaults: {breaker: {fail_max: 2, recovery_timeout: 0.2}}
routes:
  rag_service: {upstream: %s}
  rule_generation_service: {upstream: %s}
  notifier_service: {upstream: %s}
`, rag.URL(), rules.URL(), notifier.URL())})
	if o := run(p, "all up"); o.Outcome != "complete" || o.Notified != "sent" || len(o.Degraded) != 0 || !strings.Contains(string(o.Context), "/query") {
		t.Errorf("all services up: %+v", o)
	}
	for _, c := range []struct {
		service, by, notified string
		kill, start           func()
	}{
		{"rag_service", "static", "sent", rag.Kill, rag.Start},
		{"rule_generation_service", "static", "sent", rules.Kill, rules.Start},
		{"notifier_service", "queue", "queued", notifier.Kill, notifier.Start},
	} {
		c.kill()
		for i := range 4 { // the breaker opens at the second failure
			o := run(p, fmt.Sprintf("%s is down, %d", c.service, i))
			if o.Outcome != "degraded" || !slices.Equal(o.degraded(), []string{c.service}) || o.Degraded[0].By != c.by || o.Degraded[0].Reason == "" || o.Notified != c.notified {
				t.Errorf("without %s: %+v", c.service, o)
			}
		}
		c.start()
		harness.Eventually(t, c.service+" has recovered", func() bool { return run(p, "recovered?").Outcome == "complete" })
	}
	for i := range 4 {
		text := fmt.Sprintf("notifier_service is down, %d", i)
		harness.Eventually(t, "the delivery of "+text, func() bool {
			return slices.ContainsFunc(notifier.Records(), func(r harness.Record) bool { return r.Succeeded() && strings.Contains(r.BodyText, text) })
		})
	}
}

// TestOrchestrationsCompleteDuringOutages checks that runs of the orchestrator complete while upstreams are killed, one
// after the other and all at once.
func TestOrchestrationsCompleteDuringOutages(t *testing.T) {
	t.Parallel()
	rag, rules, notifier := harness.StartUpstream(t), harness.StartUpstream(t), harness.StartRecorder(t)
	run := buildExample(t)
	p := harness.StartProxy(t, harness.Options{Config: fmt.Sprintf("defaults: {breaker: {recovery_timeout: 0.2}}\nroutes:\n  rag_service: {upstream: %s}\n  rule_generation_service: {upstream: %s}\n  notifier_service: {upstream: %s}\n",
		rag.URL(), rules.URL(), notifier.URL())})
	done, completed := make(chan struct{}), new(atomic.Int64)
	var callers sync.WaitGroup
	defer callers.Wait()
	defer close(done)
	for caller := range 3 {
		callers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				if o := run(p, fmt.Sprintf("caller %d, event %d", caller, i)); o.Notified != "sent" && o.Notified != "queued" {
					t.Errorf("notified: %q", o.Notified)
				}
				completed.Add(1)
			}
		})
	}
	for range 3 {
		for _, u := range []interface {
			Kill()
			Start()
		}{rag, rules, notifier} {
			u.Kill()
			before := completed.Load()
			harness.Eventually(t, "ten more runs have completed", func() bool { return completed.Load() >= before+10 })
			u.Start()
		}
	}
	rag.Kill()
	rules.Kill()
	notifier.Kill()
	if o := run(p, "all down"); o.Outcome != "degraded" || len(o.Degraded) != 3 || o.Notified != "queued" {
		t.Errorf("all services down: %+v", o)
	}
}

// TestOrchestrationCompletesAfterInterruptedResponse checks that the orchestrator completes if a response breaks off after its
// beginning has reached the orchestrator.
func TestOrchestrationCompletesAfterInterruptedResponse(t *testing.T) {
	t.Parallel()
	rag := harness.StartRawUpstream(t, harness.RespondWith("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n"+strings.Repeat("x", 200_000), false))
	p := harness.StartProxy(t, harness.Options{Config: fmt.Sprintf("routes:\n  rag_service: {upstream: %s}\n  rule_generation_service: {upstream: %s}\n  notifier_service: {upstream: %s}\n",
		rag.URL(), harness.StartUpstream(t).URL(), harness.StartRecorder(t).URL())})
	o := buildExample(t)(p, "interrupted")
	if !slices.Equal(o.degraded(), []string{"rag_service"}) || o.Notified != "sent" || o.Outcome != "degraded" {
		t.Fatalf("got %+v", o)
	}
	if d := o.Degraded[0]; d.By != "" || d.Error != "unexpected EOF" || string(o.Context) != "null" {
		t.Errorf("context: %s, step: %+v", o.Context, d)
	}
}
