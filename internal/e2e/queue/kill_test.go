package queue

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/e2e/harness"
)

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
	clients := startClients(p.URL+"/svc", 6)
	stopFaults, faultsEnded := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(faultsEnded)
		injectUpstreamFaults(u, stopFaults)
	}()
	for n := range kills {
		time.Sleep(time.Duration(20+rand.IntN(250)) * time.Millisecond) // at a random time
		p.Kill()
		if n%4 == 0 { // also kill a process while it starts
			p.Launch()
			time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
			p.Kill()
		}
		p.Start()
	}
	sent := clients.end()
	close(stopFaults)
	<-faultsEnded
	u.SetRules()
	p.AwaitEmptyQueue()
	if s, _ := p.Queue(); s.Dead != 0 {
		t.Errorf("%d dead letters", s.Dead)
	}
	checkDeliveries(t, sent, u)
	if strings.Contains(p.Log.String(), "set-aside") {
		t.Error("a file was set aside as damaged")
	}
}
