package fleet

import (
	"strings"
	"testing"

	"cbproxy/internal/e2e/harness"
	"cbproxy/internal/redistest"
)

// TestSentinelFailover checks that the fleet uses the new master after a failover.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	replica := redistest.StartReplica(t, master)
	sentinels := redistest.StartSentinels(t, master, "main", 3, 2)
	addresses := sentinels.Addresses()
	url := "redis://" + addresses[0] + "?master_name=main&addr=" + strings.Join(addresses[1:], "&addr=")
	u := harness.StartUpstream(t)
	fleet := harness.StartFleet(t, 2, harness.Options{Config: harness.RedisConfig(`url: "`+url+`"`, u.URL(), "fail_max: 2, recovery_timeout: 1")})

	master.Kill()
	fleet[0].AwaitRedis(false)
	getQuickly(fleet[0])
	sentinels.AwaitMaster(replica)
	for _, p := range fleet {
		p.AwaitRedis(true)
	}
	u.Kill()
	getQuickly(fleet[0])
	getQuickly(fleet[0])
	harness.AwaitState(t, fleet[1:], "open")
	harness.Eventually(t, "the new master has the state", func() bool {
		return replica.Client().HGet(t.Context(), "circuit_breaker_state:svc", "state").Val() == "open"
	})
	u.Start()
	harness.Eventually(t, "both breakers are closed", func() bool {
		getQuickly(fleet[0])
		getQuickly(fleet[1])
		return fleet[0].BreakerState() == "closed" && fleet[1].BreakerState() == "closed"
	})
}

// TestRedisCluster checks a fleet that uses a cluster with keys on several nodes, which are moved between nodes and lost
// with a node.
func TestRedisCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	url := "redis+cluster://" + cluster.Nodes[0].Address()
	u := harness.StartUpstream(t)
	fleet := harness.StartFleet(t, 2, harness.Options{Config: harness.RedisConfig(`url: "`+url+`"`, u.URL(), "fail_max: 2, recovery_timeout: 1")})

	checkOpenAndClose := func() {
		t.Helper()
		u.Kill()
		getQuickly(fleet[0])
		getQuickly(fleet[0])
		harness.AwaitState(t, fleet[1:], "open")
		u.Start()
		harness.Eventually(t, "both breakers are closed", func() bool {
			getQuickly(fleet[0])
			getQuickly(fleet[1])
			return fleet[0].BreakerState() == "closed" && fleet[1].BreakerState() == "closed"
		})
	}
	checkOpenAndClose()
	for _, key := range []string{"circuit_breaker_state:svc", "circuit_breaker_probe:svc", "circuit_breaker_history:svc"} {
		owner := cluster.Owner(key)
		for _, node := range cluster.Nodes {
			if node != owner {
				cluster.Move(key, node) // from now on the client receives MOVED
				break
			}
		}
	}
	checkOpenAndClose()
	for _, p := range fleet {
		if h := p.Health(); !h.Redis.Up {
			t.Errorf("%+v", h.Redis)
		}
	}
	owner := cluster.Owner("circuit_breaker_state:svc")
	owner.Kill()
	u.Kill()
	getQuickly(fleet[0])
	if s := getQuickly(fleet[0]); s != "open" {
		t.Errorf("breaker state %s without the node of its key", s)
	}
	harness.Eventually(t, "the error is reported", func() bool { getQuickly(fleet[0]); return !fleet[0].Health().Redis.Up })
	u.Start()
	harness.Eventually(t, "the breaker closes without Redis", func() bool { return getQuickly(fleet[0]) == "closed" })
	owner.Restart()
	cluster.AwaitOK()
	for _, p := range fleet {
		p.AwaitRedis(true)
	}
	checkOpenAndClose()
}
