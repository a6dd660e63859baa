package queue

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
	"cbproxy/internal/testenv"
)

// TestRequestNotQueuedFallsThroughToNextStrategy checks that a request that the queue does not accept gets the next
// strategy's response.
func TestRequestNotQueuedFallsThroughToNextStrategy(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(u.Upstream, "capacity: 3, max_body: 20")})
	checkNotQueued := func(request string, r harness.Response) {
		t.Helper()
		if r.Status != http.StatusServiceUnavailable || r.Header.Get("X-Fallback") != "static" || r.Body != `{"queued":false}` {
			t.Errorf("%s: %+v", request, r)
		}
	}
	checkNotQueued("a large body", p.Post(strings.Repeat("x", 21)))
	checkNotQueued("a GET", p.Get("/svc"))
	checkNotQueued("a DELETE", p.Send("DELETE", "/svc", ""))
	p.MustQueue("a", strings.Repeat("x", 20))
	checkNotQueued("a large body with requests queued", p.Post(strings.Repeat("x", 21)))
	checkNotQueued("a large body of unknown length", p.SendRaw("POST /svc HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n15\r\n"+
		strings.Repeat("x", 21)+"\r\n0\r\n\r\n"))
	if call := callGRPC(p, "/svc/pkg.Service/Method"); call.Header.Get("Grpc-Status") != "14" || call.Header.Get("X-Fallback") == "queue" {
		t.Errorf("a gRPC call: %+v", call)
	}
	p.MustQueue("c")
	checkNotQueued("a request beyond the capacity", p.Post("d"))
	if n := p.Metric(`cbproxy_queue_depth{service="svc"}`); n != 3 {
		t.Errorf("%v requests are queued, want 3", n)
	}
	u.Start()
	t.Cleanup(u.Kill)
	u.AwaitDelivered("a", strings.Repeat("x", 20), "c")
	p.AwaitEmptyQueue()
	harness.Eventually(t, "requests bypass the queue", func() bool { return p.Post("e").Status == http.StatusOK })
}

// callGRPC makes a gRPC call with an empty message and returns the response.
func callGRPC(p *harness.Proxy, method string) harness.Response {
	p.T.Helper()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequest(http.MethodPost, p.URL+method, strings.NewReader("\x00\x00\x00\x00\x00"))
	if err != nil {
		p.T.Fatal(err)
	}
	r.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
	res, err := transport.RoundTrip(r)
	return harness.ReadResponse(p.T, res, err)
}

func TestAttemptsAndAgeAreLimited(t *testing.T) {
	t.Parallel()
	for limit, cause := range map[string]string{"max_attempts: 3": "attempts", "max_age: 1": "expired"} {
		t.Run(cause, func(t *testing.T) {
			t.Parallel()
			u := harness.NewRecorder(t)
			p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(u.Upstream, limit)})
			p.MustQueue("poison")
			u.SetRules(harness.Rule{In: "poison", Status: 500})
			u.Start()
			t.Cleanup(u.Kill)
			letter := p.AwaitDeadLetters(1)[0]
			if letter.Cause != cause || cause == "attempts" && letter.Attempts != 3 || letter.LastError == "" {
				t.Errorf("%+v", letter)
			}
			harness.Eventually(t, "the dead letter is counted", func() bool { return p.Metric(`cbproxy_queue_dead_total{service="svc"}`) == 1 })
			p.Signal(syscall.SIGKILL)
			p.Wait()
			p.Start()
			if again := p.AwaitDeadLetters(1)[0]; again != letter {
				t.Errorf("after a restart %+v, before %+v", again, letter)
			}
		})
	}
}

// TestAgeIsLimitedWhileBreakerIsOpen checks that requests expire while the breaker stays open.
func TestAgeIsLimitedWhileBreakerIsOpen(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(u.Upstream, "max_age: 1")})
	harness.ForceState(t, p, "open")
	p.MustQueue("a", "b")
	for _, l := range p.AwaitDeadLetters(2) {
		if l.Cause != "expired" || l.Attempts != 0 {
			t.Errorf("%+v", l)
		}
	}
	if len(u.Records()) != 0 {
		t.Error("a request was sent although the breaker was open")
	}
}

// TestQueueHonoursRetryAfter checks that the queue waits as long as the Retry-After field of a 429 says, and that a 429 does
// not count as a failure.
func TestQueueHonoursRetryAfter(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(u.Upstream, "")})
	p.MustQueue("busy", "next")
	u.SetRules(harness.Rule{In: "busy", Status: 429, Headers: map[string]string{"Retry-After": "1"}})
	u.Start()
	t.Cleanup(u.Kill)
	harness.Eventually(t, "the upstream has responded with 429", func() bool { return len(u.Records()) > 0 })
	u.SetRules()
	p.MustQueue("new") // must not cause an earlier retry
	u.AwaitDelivered("busy", "next", "new")
	all := u.Records()
	if waited := all[1].Time.Sub(all[0].Time); waited < 990*time.Millisecond {
		t.Errorf("repeated after %v", waited)
	}
	if s := p.Health().Services["svc"]; s.State != "closed" {
		t.Errorf("a 429 was counted as a failure: %+v", s)
	}
}

// TestQueueInMemoryWarns checks that a queue works without data_dir, and that the log has a warning.
func TestQueueInMemoryWarns(t *testing.T) {
	t.Parallel()
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{NoDataDir: true, Config: harness.QueueConfig(u.Upstream, "")})
	if !strings.Contains(p.Log.String(), "queued requests are lost when the process ends") {
		t.Error("the log has no warning")
	}
	p.MustQueue("a", "b")
	u.Start()
	t.Cleanup(u.Kill)
	u.AwaitDelivered("a", "b")
}

// TestFullDiskRejectsQueuing checks that a request that cannot be stored is not accepted.
func TestFullDiskRejectsQueuing(t *testing.T) {
	t.Parallel()
	disk := testenv.MountDisk(t, "16m")
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{DataDir: disk, Config: harness.QueueConfigWithBreaker(u.Upstream, "fail_max: 1, recovery_timeout: 60", "")})
	p.MustQueue("first")
	free := testenv.FillDisk(t, disk)
	large := strings.Repeat("x", 900_000)
	accepted, rejected := []string{"first"}, 0
	for _, body := range harness.Numbered("m", 40) {
		switch r := p.Send("POST", "/svc/"+body, body+large); {
		case r.Status == http.StatusAccepted:
			accepted = append(accepted, body+large) // fits in free pages of the file
		case r.Status == http.StatusServiceUnavailable && r.Header.Get("X-Fallback") == "static":
			rejected++
		default:
			t.Errorf("request with a full disk: %d %v", r.Status, r.Header)
		}
	}
	if rejected == 0 {
		t.Fatal("the disk was not full")
	}
	p.Signal(syscall.SIGKILL) // only accepted requests may be delivered after the restart
	p.Wait()
	free()
	p.Start()
	p.MustQueue("last")
	u.Start()
	t.Cleanup(u.Kill)
	harness.ForceState(t, p, "half-open")
	p.AwaitEmptyQueue()
	if got := u.SuccessfulBodies(); !slices.Equal(got, append(accepted, "last")) {
		t.Errorf("%d requests were delivered, %d accepted", len(got), len(accepted)+1)
	}
}

// TestFullDiskDoesNotStopDelivery checks that requests are delivered although a full disk prevents their
// removal.
func TestFullDiskDoesNotStopDelivery(t *testing.T) {
	t.Parallel()
	disk := testenv.MountDisk(t, "16m")
	u := harness.NewRecorder(t)
	p := harness.StartProxy(t, harness.Options{DataDir: disk, Config: harness.QueueConfigWithBreaker(u.Upstream, "fail_max: 1, recovery_timeout: 60", "")})
	p.MustQueue(harness.Numbered("m", 5)...)
	free := testenv.FillDisk(t, disk)
	u.Start()
	t.Cleanup(u.Kill)
	harness.ForceState(t, p, "half-open")
	u.AwaitDelivered(harness.Numbered("m", 5)...)
	p.AwaitEmptyQueue()
	free()
	harness.Eventually(t, "requests bypass the queue", func() bool { return p.Post("n").Status == http.StatusOK })
}

// TestUnopenableQueueFailsStart checks that the proxy exits with an error if it can't open the queue's folder.
func TestUnopenableQueueFailsStart(t *testing.T) {
	u := harness.StartUpstream(t)
	p := harness.StartProxy(t, harness.Options{Config: harness.QueueConfig(u, "")})
	p.Kill()
	folder := filepath.Join(p.DataDir, "queue")
	if err := errors.Join(os.RemoveAll(folder), os.WriteFile(folder, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	p.Launch()
	if status := p.Wait(); status != 1 || !strings.Contains(p.Log.String(), "open the queue: "+folder+": must be a directory") || strings.Contains(p.Log.String(), "goroutine") {
		t.Errorf("exit status %d:\n%s", status, p.Log)
	}
}
