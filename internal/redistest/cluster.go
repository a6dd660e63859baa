package redistest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// slots is how many parts every cluster's keys have.
const slots = 16384

// Cluster is a Redis cluster of masters without replicas.
type Cluster struct {
	// Nodes are its masters.
	Nodes []*Server

	t   testing.TB
	ids map[*Server]string
}

// StartCluster starts n masters that share all slots, and waits until every one of them serves
// the cluster. args are more options of each.
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

// AwaitOK waits until every node that is neither killed nor paused says that all slots are
// served.
func (c *Cluster) AwaitOK() {
	c.t.Helper()
	want := []string{"cluster_state:ok", "cluster_slots_ok:" + strconv.Itoa(slots), "cluster_known_nodes:" + strconv.Itoa(len(c.Nodes))}
	for _, node := range c.up() {
		eventually(c.t, fmt.Sprintf("the cluster is served by %s", node.address), func() bool {
			return node.says(want, "CLUSTER", "INFO")
		})
	}
}

// up returns the nodes that are neither killed nor paused.
func (c *Cluster) up() []*Server {
	c.t.Helper()
	var up []*Server
	for _, node := range c.Nodes {
		if node.answers() {
			up = append(up, node)
		}
	}
	if len(up) == 0 {
		c.t.Fatal("no node is there to be asked")
	}
	return up
}

func (c *Cluster) must(node *Server, args ...any) {
	c.t.Helper()
	if err := node.ask(args...).Err(); err != nil {
		c.t.Fatalf("%v at %s: %v", args, node.address, err)
	}
}

func (c *Cluster) text(node *Server, args ...any) string {
	c.t.Helper()
	text, err := node.ask(args...).Text()
	if err != nil {
		c.t.Fatalf("%v at %s: %v", args, node.address, err)
	}
	return text
}

// Addresses returns the nodes' addresses.
func (c *Cluster) Addresses() []string { return addresses(c.Nodes) }

// Client returns a client that follows the cluster's redirections and lives as long as the
// test.
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

// Slot returns the slot that a key is in.
func (c *Cluster) Slot(key string) int {
	c.t.Helper()
	slot, err := c.up()[0].ask("CLUSTER", "KEYSLOT", key).Int()
	if err != nil {
		c.t.Fatal(err)
	}
	return slot
}

// Owner returns the node that a key's slot is at, as the node itself says.
func (c *Cluster) Owner(key string) *Server {
	c.t.Helper()
	slot := c.Slot(key)
	for _, node := range c.up() {
		if c.owner(node, slot) == c.ids[node] {
			return node
		}
	}
	c.t.Fatalf("no node that is there has slot %d", slot)
	return nil
}

// owner returns the id of the node that has a slot, as another node believes.
func (c *Cluster) owner(asked *Server, slot int) string {
	c.t.Helper()
	ranges, err := asked.ask("CLUSTER", "SLOTS").Slice()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, r := range ranges {
		// A range is its first and its last slot, and then its nodes: host, port, id.
		r := r.([]any)
		if first, last := r[0].(int64), r[1].(int64); int64(slot) >= first && int64(slot) <= last {
			return r[2].([]any)[2].(string)
		}
	}
	return ""
}

// Move moves a key's slot, with all that is in it, to another node, and waits until every node
// knows. Who asks the old one meets MOVED.
func (c *Cluster) Move(key string, to *Server) {
	c.t.Helper()
	slot, from := c.Slot(key), c.Owner(key)
	if from == to {
		return
	}
	c.must(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", c.ids[from])
	c.must(from, "CLUSTER", "SETSLOT", slot, "MIGRATING", c.ids[to])
	c.moveKeys(slot, from, to)
	// The new owner is told first: a slot that nobody has is lost.
	for _, node := range append([]*Server{to, from}, c.up()...) {
		c.must(node, "CLUSTER", "SETSLOT", slot, "NODE", c.ids[to])
	}
	for _, node := range c.up() {
		eventually(c.t, fmt.Sprintf("%s knows where slot %d is", node.address, slot), func() bool {
			return c.owner(node, slot) == c.ids[to]
		})
	}
}

func (c *Cluster) moveKeys(slot int, from, to *Server) {
	c.t.Helper()
	host, port, _ := strings.Cut(to.address, ":")
	for {
		keys, err := from.ask("CLUSTER", "GETKEYSINSLOT", slot, 100).Slice()
		if err != nil {
			c.t.Fatal(err)
		}
		if len(keys) == 0 {
			return
		}
		migrate := []any{"MIGRATE", host, port, "", 0, patience.Milliseconds()}
		if to.password != "" {
			migrate = append(migrate, "AUTH", to.password)
		}
		c.must(from, append(append(migrate, "KEYS"), keys...)...)
	}
}
