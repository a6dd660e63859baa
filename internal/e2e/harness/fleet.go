package harness

import (
	"fmt"
	"testing"
)

// StartFleet starts n proxies with the same options, which must configure Redis, and waits until all are connected to it.
func StartFleet(t testing.TB, n int, o Options) []*Proxy {
	t.Helper()
	fleet := make([]*Proxy, n)
	for i := range fleet {
		fleet[i] = StartProxy(t, o)
	}
	for _, p := range fleet {
		p.AwaitRedis(true)
	}
	return fleet
}

// AwaitState waits until each proxy reports the given breaker state of service svc.
func AwaitState(t testing.TB, fleet []*Proxy, state string) {
	t.Helper()
	for i, p := range fleet {
		Eventually(t, fmt.Sprintf("breaker of proxy %d is %s", i, state), func() bool { return p.BreakerState() == state })
	}
}
