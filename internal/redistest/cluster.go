package redistest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// slots is the number of hash slots of a cluster.
const slots = 16384

// Cluster is a Redis cluster of masters without replicas.
type Cluster struct {
	// Nodes are the masters.
	Nodes []*Server

	t   testing.TB
	ids map[*Server]string
}

// StartCluster starts n masters that share all slots, and waits until every one reports the cluster as complete. args are more options of
// each.
func StartCluster(t testing.TB, n int, args ...string) *Cluster {
	t.Helper()
	c := &Cluster{t: t, ids: map[*Server]string{}}
	for i := range n {
		node := Start(t, append([]string{"--cluster-enabled", "yes", "--cluster-node-timeout", "5000"}, args...)...)
		c.Nodes = append(c.Nodes, node)
		c.must(node, "CLUSTER", "ADDSLOTSRANGE", slots*i/n, slots*(i+1)/n-1)
		c.must(node, "CLUSTER", "SET-CONFIG-EPOCH", i+1)
		c.ids[node] = c.text(node, "CLUSTER", "MYID")
		for _, earlier := range c.Nodes[:i] {
			host, port, _ := strings.Cut(earlier.address, ":")
			c.must(node, "CLUSTER", "MEET", host, port)
		}
	}
	c.AwaitOK()
	return c
}

// AwaitOK waits until every running node reports that all slots are served.
func (c *Cluster) AwaitOK() {
	c.t.Helper()
	want := []string{"cluster_state:ok", "cluster_slots_ok:" + strconv.Itoa(slots), "cluster_known_nodes:" + strconv.Itoa(len(c.Nodes))}
	for _, node := range c.runningNodes() {
		eventually(c.t, fmt.Sprintf("%s reports that the cluster is complete", node.address), func() bool {
			return node.replyHasLines(want, "CLUSTER", "INFO")
		})
	}
}

// runningNodes returns the nodes that are neither killed nor paused.
func (c *Cluster) runningNodes() []*Server {
	c.t.Helper()
	var up []*Server
	for _, node := range c.Nodes {
		if node.running() {
			up = append(up, node)
		}
	}
	if len(up) == 0 {
		c.t.Fatal("no node is running")
	}
	return up
}

func (c *Cluster) must(node *Server, args ...any) {
	c.t.Helper()
	if err := node.do(args...).Err(); err != nil {
		c.t.Fatalf("%v at %s: %v", args, node.address, err)
	}
}

func (c *Cluster) text(node *Server, args ...any) string {
	c.t.Helper()
	text, err := node.do(args...).Text()
	if err != nil {
		c.t.Fatalf("%v at %s: %v", args, node.address, err)
	}
	return text
}

// Addresses returns the addresses of the nodes.
func (c *Cluster) Addresses() []string { return addresses(c.Nodes) }

// Client returns a client that follows the redirections of the cluster and is closed at the end of the test.
func (c *Cluster) Client() *redis.ClusterClient {
	o := c.Nodes[0].options()
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs:                    c.Addresses(),
		Password:                 o.Password,
		Protocol:                 o.Protocol,
		DisableIdentity:          o.DisableIdentity,
		MaintNotificationsConfig: o.MaintNotificationsConfig,
		ContextTimeoutEnabled:    o.ContextTimeoutEnabled,
	})
	c.t.Cleanup(func() { _ = client.Close() })
	return client
}

// Slot returns the slot of a key.
func (c *Cluster) Slot(key string) int {
	c.t.Helper()
	slot, err := c.runningNodes()[0].do("CLUSTER", "KEYSLOT", key).Int()
	if err != nil {
		c.t.Fatal(err)
	}
	return slot
}

// Owner returns the running node that reports itself as the owner of the slot of a key.
func (c *Cluster) Owner(key string) *Server {
	c.t.Helper()
	slot := c.Slot(key)
	for _, node := range c.runningNodes() {
		if c.owner(node, slot) == c.ids[node] {
			return node
		}
	}
	c.t.Fatalf("no running node owns slot %d", slot)
	return nil
}

// owner returns the ID of the node that owns a slot, as node reports it; "" if none.
func (c *Cluster) owner(node *Server, slot int) string {
	c.t.Helper()
	ranges, err := node.do("CLUSTER", "SLOTS").Slice()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, r := range ranges {
		// A range consists of its first slot, its last slot, and its nodes (host, port, ID).
		r := r.([]any)
		if first, last := r[0].(int64), r[1].(int64); int64(slot) >= first && int64(slot) <= last {
			return r[2].([]any)[2].(string)
		}
	}
	return ""
}

// Move moves the slot of a key, with its content, to another node, and waits until every node reports the new owner. Then the old owner
// answers MOVED.
func (c *Cluster) Move(key string, to *Server) {
	c.t.Helper()
	slot, from := c.Slot(key), c.Owner(key)
	if from == to {
		return
	}
	c.must(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", c.ids[from])
	c.must(from, "CLUSTER", "SETSLOT", slot, "MIGRATING", c.ids[to])
	c.moveKeys(slot, from, to)
	// The new owner must be set first, because a slot without an owner is lost.
	for _, node := range append([]*Server{to, from}, c.runningNodes()...) {
		c.must(node, "CLUSTER", "SETSLOT", slot, "NODE", c.ids[to])
	}
	for _, node := range c.runningNodes() {
		eventually(c.t, fmt.Sprintf("%s reports the new owner of slot %d", node.address, slot), func() bool {
			return c.owner(node, slot) == c.ids[to]
		})
	}
}

func (c *Cluster) moveKeys(slot int, from, to *Server) {
	c.t.Helper()
	host, port, _ := strings.Cut(to.address, ":")
	for {
		keys, err := from.do("CLUSTER", "GETKEYSINSLOT", slot, 100).Slice()
		if err != nil {
			c.t.Fatal(err)
		}
		if len(keys) == 0 {
			return
		}
		migrate := []any{"MIGRATE", host, port, "", 0, waitTimeout.Milliseconds()}
		if to.password != "" {
			migrate = append(migrate, "AUTH", to.password)
		}
		c.must(from, append(append(migrate, "KEYS"), keys...)...)
	}
}
