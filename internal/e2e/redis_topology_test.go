package e2e

import (
	"strings"
	"testing"

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
	u := startUpstream(t)
	fleet := startFleet(t, 2, options{config: sharing(`url: "`+url+`"`, u.url(), "fail_max: 2, recovery_timeout: 1")})

	master.Kill()
	fleet[0].awaitRedis(false)
	quick(fleet[0])
	sentinels.AwaitMaster(replica)
	for _, p := range fleet {
		p.awaitRedis(true)
	}
	u.kill()
	quick(fleet[0])
	quick(fleet[0])
	awaitState(t, fleet[1:], "open")
	eventually(t, "the new master has it", func() bool {
		return replica.Client().HGet(t.Context(), "circuit_breaker_state:svc", "state").Val() == "open"
	})
	u.start()
	eventually(t, "both recover", func() bool {
		quick(fleet[0])
		quick(fleet[1])
		return fleet[0].state() == "closed" && fleet[1].state() == "closed"
	})
}

// TestRedisCluster checks a fleet on a cluster whose keys are on several nodes, move between nodes, and are
// lost with a node.
func TestRedisCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 3)
	url := "redis+cluster://" + cluster.Nodes[0].Address()
	u := startUpstream(t)
	fleet := startFleet(t, 2, options{config: sharing(`url: "`+url+`"`, u.url(), "fail_max: 2, recovery_timeout: 1")})

	story := func() {
		t.Helper()
		u.kill()
		quick(fleet[0])
		quick(fleet[0])
		awaitState(t, fleet[1:], "open")
		u.start()
		eventually(t, "both recover", func() bool {
			quick(fleet[0])
			quick(fleet[1])
			return fleet[0].state() == "closed" && fleet[1].state() == "closed"
		})
	}
	story()
	for _, key := range []string{"circuit_breaker_state:svc", "circuit_breaker_probe:svc", "circuit_breaker_history:svc"} {
		owner := cluster.Owner(key)
		for _, node := range cluster.Nodes {
			if node != owner {
				cluster.Move(key, node) // the client receives MOVED from now on
				break
			}
		}
	}
	story()
	for _, p := range fleet {
		if h := p.health(); !h.Redis.Up {
			t.Errorf("%+v", h.Redis)
		}
	}
	owner := cluster.Owner("circuit_breaker_state:svc")
	owner.Kill()
	u.kill()
	quick(fleet[0])
	if s := quick(fleet[0]); s != "open" {
		t.Errorf("breaker state %s without the node of its key", s)
	}
	eventually(t, "the error is reported", func() bool { quick(fleet[0]); return !fleet[0].health().Redis.Up })
	u.start()
	eventually(t, "each recovers by itself", func() bool { return quick(fleet[0]) == "closed" })
	owner.Restart()
	cluster.AwaitOK()
	for _, p := range fleet {
		p.awaitRedis(true)
	}
	story()
}
