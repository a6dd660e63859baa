package e2e

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
)

func TestRequestNotQueuedFallsThroughToNextStrategy(t *testing.T) {
	t.Parallel()
	u := newRecorder(t)
	p := startProxy(t, options{config: queueRoute(u.upstreamProcess, "capacity: 3, max_body: 20")})
	refused := func(what string, r response) {
		t.Helper()
		if r.status != http.StatusServiceUnavailable || r.header.Get("X-Fallback") != "static" || r.body != `{"queued":false}` {
			t.Errorf("%s: %+v", what, r)
		}
	}
	refused("a large body", p.post(strings.Repeat("x", 21)))
	refused("a GET", p.get("/svc"))
	refused("a DELETE", p.send("DELETE", "/svc", ""))
	p.mustQueue("a", strings.Repeat("x", 20))
	refused("a large body while others wait", p.post(strings.Repeat("x", 21)))
	refused("a large body of unknown length", p.ask("POST /svc HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n15\r\n"+
		strings.Repeat("x", 21)+"\r\n0\r\n\r\n"))
	if call := callGRPC(p, "/svc/pkg.Service/Method"); call.header.Get("Grpc-Status") != "14" || call.header.Get("X-Fallback") == "queue" {
		t.Errorf("a gRPC call: %+v", call)
	}
	p.mustQueue("c")
	refused("the fourth", p.post("d"))
	if n := p.metric(`cbproxy_queue_depth{service="svc"}`); n != 3 {
		t.Errorf("%v wait", n)
	}
	u.start()
	t.Cleanup(u.kill)
	u.awaitTaken("a", strings.Repeat("x", 20), "c")
	p.drained()
	eventually(t, "requests go straight through", func() bool { return p.post("e").status == http.StatusOK })
}

// callGRPC makes a call with an empty message.
func callGRPC(p *proxyProcess, method string) response {
	p.t.Helper()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequest(http.MethodPost, p.data+method, strings.NewReader("\x00\x00\x00\x00\x00"))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
	res, err := transport.RoundTrip(r)
	return read(p.t, res, err)
}

func TestAttemptsAndAgeAreLimited(t *testing.T) {
	t.Parallel()
	for limit, cause := range map[string]string{"max_attempts: 3": "attempts", "max_age: 1": "expired"} {
		t.Run(cause, func(t *testing.T) {
			t.Parallel()
			u := newRecorder(t)
			p := startProxy(t, options{config: queueRoute(u.upstreamProcess, limit)})
			p.mustQueue("poison")
			u.answer(rule{In: "poison", Status: 500})
			u.start()
			t.Cleanup(u.kill)
			letter := p.dead(1)[0]
			if letter.Cause != cause || cause == "attempts" && letter.Attempts != 3 || letter.LastError == "" {
				t.Errorf("%+v", letter)
			}
			eventually(t, "that is counted", func() bool { return p.metric(`cbproxy_queue_dead_total{service="svc"}`) == 1 })
			p.signal(syscall.SIGKILL)
			p.wait()
			p.start()
			if again := p.dead(1)[0]; again != letter {
				t.Errorf("after a restart %+v, was %+v", again, letter)
			}
		})
	}
}

// TestAgeIsLimitedWhileBreakerIsOpen checks that requests expire while the breaker stays open.
func TestAgeIsLimitedWhileBreakerIsOpen(t *testing.T) {
	t.Parallel()
	u := newRecorder(t)
	p := startProxy(t, options{config: queueRoute(u.upstreamProcess, "max_age: 1")})
	forceTo(t, p, "open")
	p.mustQueue("a", "b")
	for _, l := range p.dead(2) {
		if l.Cause != "expired" || l.Attempts != 0 {
			t.Errorf("%+v", l)
		}
	}
	if len(u.records()) != 0 {
		t.Error("a request passed the open breaker")
	}
}

func TestQueueHonoursRetryAfter(t *testing.T) {
	t.Parallel()
	u := newRecorder(t)
	p := startProxy(t, options{config: queueRoute(u.upstreamProcess, "")})
	p.mustQueue("busy", "next")
	u.answer(rule{In: "busy", Status: 429, Headers: map[string]string{"Retry-After": "1"}})
	u.start()
	t.Cleanup(u.kill)
	eventually(t, "the 429 was sent", func() bool { return len(u.records()) > 0 })
	u.answer()
	p.mustQueue("arrived") // does not cause an earlier retry
	u.awaitTaken("busy", "next", "arrived")
	all := u.records()
	if waited := all[1].at.Sub(all[0].at); waited < 990*time.Millisecond {
		t.Errorf("sent again after %v", waited)
	}
	if s := p.health().Services["svc"]; s.State != "closed" {
		t.Errorf("a 429 was counted as a failure: %+v", s)
	}
}

func TestQueueInMemoryWarns(t *testing.T) {
	t.Parallel()
	u := newRecorder(t)
	p := startProxy(t, options{noDataDir: true, config: queueRoute(u.upstreamProcess, "")})
	if !strings.Contains(p.log.String(), "queued requests are lost when the process ends") {
		t.Error("the log has no warning")
	}
	p.mustQueue("a", "b")
	u.start()
	t.Cleanup(u.kill)
	u.awaitTaken("a", "b")
}

// TestFullDiskRejectsQueuing checks that a request that cannot be stored is not accepted.
func TestFullDiskRejectsQueuing(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "16m")
	u := newRecorder(t)
	p := startProxy(t, options{dataDir: disk, config: queueRouteWith(u.upstreamProcess, "fail_max: 1, recovery_timeout: 60", "")})
	p.mustQueue("first")
	ballast := filepath.Join(disk, "ballast")
	_ = os.WriteFile(ballast, make([]byte, 16<<20), 0o600) // fills the disk
	large := strings.Repeat("x", 900_000)
	accepted, refused := []string{"first"}, 0
	for _, body := range numbered("m", 40) {
		switch r := p.send("POST", "/svc/"+body, body+large); {
		case r.status == http.StatusAccepted:
			accepted = append(accepted, body+large) // fits in free pages of the file
		case r.status == http.StatusServiceUnavailable && r.header.Get("X-Fallback") == "static":
			refused++
		default:
			t.Errorf("with a full disk: %d %v", r.status, r.header)
		}
	}
	if refused == 0 {
		t.Fatal("the disk was not full")
	}
	p.signal(syscall.SIGKILL) // only accepted requests may be delivered after the restart
	p.wait()
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	p.start()
	p.mustQueue("last")
	u.start()
	t.Cleanup(u.kill)
	forceTo(t, p, "half-open")
	p.drained()
	if got := u.bodies(); !slices.Equal(got, append(accepted, "last")) {
		t.Errorf("%d are delivered of %d accepted", len(got), len(accepted)+1)
	}
}

// TestFullDiskDoesNotStopDelivery checks that requests are delivered although a full disk prevents their
// removal.
func TestFullDiskDoesNotStopDelivery(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "16m")
	u := newRecorder(t)
	p := startProxy(t, options{dataDir: disk, config: queueRouteWith(u.upstreamProcess, "fail_max: 1, recovery_timeout: 60", "")})
	p.mustQueue(numbered("m", 5)...)
	ballast := filepath.Join(disk, "ballast")
	_ = os.WriteFile(ballast, make([]byte, 16<<20), 0o600)
	u.start()
	t.Cleanup(u.kill)
	forceTo(t, p, "half-open")
	u.awaitTaken(numbered("m", 5)...)
	p.drained()
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, "requests go straight through", func() bool { return p.post("n").status == http.StatusOK })
}

func TestUnopenableQueueFailsStart(t *testing.T) {
	u := startUpstream(t)
	p := startProxy(t, options{config: queueRoute(u, "")})
	p.kill()
	folder := filepath.Join(p.folder, "queue")
	if err := errors.Join(os.RemoveAll(folder), os.WriteFile(folder, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	p.launch()
	if status := p.wait(); status != 1 || !strings.Contains(p.log.String(), "open the queue: "+folder+": must be a directory") || strings.Contains(p.log.String(), "goroutine") {
		t.Errorf("exit status %d", status)
	}
}
