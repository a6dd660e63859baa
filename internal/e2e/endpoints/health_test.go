package endpoints

import (
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"cbproxy/internal/e2e/harness"
)

// checked is the answer of a server to health checks, on /healthz.
type checked struct {
	status atomic.Int64 // 0: 200
	delay  atomic.Int64
	checks atomic.Int64
}

func (c *checked) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/healthz" {
		return
	}
	c.checks.Add(1)
	time.Sleep(time.Duration(c.delay.Load()))
	if status := int(c.status.Load()); status != 0 {
		w.WriteHeader(status)
	}
}

// startChecked starts three servers that answer health checks.
func startChecked(t *testing.T) (servers []*server, answers []*checked, list string) {
	t.Helper()
	servers, list = startServers(t, 3)
	for _, s := range servers {
		c := new(checked)
		s.handler = c
		answers = append(answers, c)
	}
	return servers, answers, list
}

// checks is the number of health checks with a result.
func checks(p *harness.Proxy, result string) float64 {
	return p.Metric(`cbproxy_health_checks_total{result="` + result + `",service="svc"}`)
}

// An endpoint whose health check fails is ejected and comes back, and no client sees a failure. Requests are never its trial.
func TestUnhealthyEndpointIsEjectedBeforeRequestsFail(t *testing.T) {
	t.Parallel()
	servers, answers, list := startChecked(t)
	p := start(t, list, "balance: {policy: round_robin, eject: {time: 500ms}}, breaker: {probe: {path: /healthz, always: true, interval: 100ms, timeout: 10s}}")
	tr := newTraffic(p, "POST") // is not retried
	stop := tr.background()
	answers[1].status.Store(503)
	awaitStates(p, "in ejected in", func() {})
	failed := checks(p, "failure")
	before := servers[1].calls.Load() - answers[1].checks.Load()
	harness.Eventually(t, "checks after the ejection's end", func() bool { return statusOf(p).ejections() > 2 && checks(p, "failure") > failed })
	if n := servers[1].calls.Load() - answers[1].checks.Load() - before; n > 1 { // one may have been on its way
		t.Errorf("%d requests reached the ejected endpoint", n)
	}
	answers[1].status.Store(0)
	awaitStates(p, "in in in", func() {})
	stop()
	if failed := tr.failedFrom(0); failed.n > 0 {
		t.Errorf("of %d requests have failed: %+v", tr.sent, failed)
	}
	if s := statusOf(p); s.State != "closed" || checks(p, "success") == 0 {
		t.Errorf("%+v", s)
	}
}

// A gRPC server that is NOT_SERVING is ejected, although it answers calls.
func TestGRPCServerThatIsNotServingIsEjected(t *testing.T) {
	t.Parallel()
	var urls []string
	var services []*health.Server
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s, h := grpc.NewServer(), health.NewServer()
		grpc_health_v1.RegisterHealthServer(s, h)
		go func() { _ = s.Serve(l) }()
		t.Cleanup(s.Stop)
		urls, services = append(urls, "h2c://"+l.Addr().String()), append(services, h)
	}
	p := start(t, "["+strings.Join(urls, ", ")+"]", "balance: {eject: {time: 500ms}}, breaker: {probe: {grpc: true, always: true, interval: 100ms, timeout: 10s}}")
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	call := func() {
		const unimplemented = "12" // the answer of the servers
		if got := callGRPC(p, &http.Client{Transport: transport}); got != unimplemented {
			t.Errorf("status %s", got)
		}
	}
	services[0].SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	awaitStates(p, "ejected in in", call)
	services[0].SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	awaitStates(p, "in in in", call)
}

// Checks that were running while the process was stopped count neither way.
func TestStoppedProxyEjectsNoEndpoint(t *testing.T) {
	t.Parallel()
	_, answers, list := startChecked(t)
	for _, a := range answers {
		a.delay.Store(int64(50 * time.Millisecond)) // a check is mostly in progress
	}
	p := start(t, list, "balance: {eject: {fail_max: 1}}, breaker: {probe: {path: /healthz, always: true, interval: 60ms, timeout: 2s}}")
	for range 2 {
		before := checks(p, "success")
		harness.Eventually(t, "checks", func() bool { return checks(p, "success") > before+10 })
		p.Signal(syscall.SIGSTOP)
		time.Sleep(4 * time.Second) // longer than the timeout of a check
		p.Signal(syscall.SIGCONT)
	}
	before := checks(p, "success")
	harness.Eventually(t, "checks", func() bool { return checks(p, "success") > before+10 })
	if s := statusOf(p); s.ejections() != 0 {
		t.Errorf("%+v\n%s", s, p.Metrics())
	}
}
