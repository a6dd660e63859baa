package e2e

import (
	"fmt"
	"testing"
)

// startFleet starts n proxies with the same options, which name a Redis, and waits until all use it.
func startFleet(t testing.TB, n int, o options) []*proxyProcess {
	t.Helper()
	fleet := make([]*proxyProcess, n)
	for i := range fleet {
		fleet[i] = startProxy(t, o)
	}
	for _, p := range fleet {
		p.awaitRedis(true)
	}
	return fleet
}

func awaitState(t testing.TB, fleet []*proxyProcess, state string) {
	t.Helper()
	for i, p := range fleet {
		eventually(t, fmt.Sprintf("proxy %d is %s", i, state), func() bool { return p.state() == state })
	}
}
