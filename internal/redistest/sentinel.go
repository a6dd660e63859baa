package redistest

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Sentinels are the processes that watch a master, and promote a replica when it's gone.
type Sentinels struct {
	// Name is what they call the master.
	Name string
	// Nodes are the processes, to be killed or paused like servers.
	Nodes []*Server

	t testing.TB
}

// StartSentinels starts n sentinels that watch the master and its replicas, which have to be
// there already. quorum of them must miss it. It waits until they know of each other and of
// the replicas. args are more options of each: "--requirepass", "x", or "--sentinel",
// "down-after-milliseconds", name, "1000".
func StartSentinels(t testing.TB, master *Server, name string, n, quorum int, args ...string) *Sentinels {
	t.Helper()
	host, port, _ := strings.Cut(master.address, ":")
	all := []string{
		"--sentinel", "monitor", name, host, port, strconv.Itoa(quorum),
		"--sentinel", "down-after-milliseconds", name, downAfter,
		"--sentinel", "failover-timeout", name, "2000",
	}
	if master.password != "" {
		all = append(all, "--sentinel", "auth-pass", name, master.password)
	}
	s := &Sentinels{t: t, Name: name}
	for range n {
		s.Nodes = append(s.Nodes, launch(t, sentinel, append(all, args...)))
	}
	replicas := countReplicas(t, master)
	for _, node := range s.Nodes {
		eventually(t, fmt.Sprintf("sentinel %s knows %d sentinels and %d replicas", node.address, n-1, replicas), func() bool {
			return node.watches(name, n-1, replicas)
		})
	}
	return s
}

// downAfter is how many milliseconds of silence sentinels bear: more than a restart takes.
const downAfter = "1000"

// hurry makes a sentinel look more often than once in some seconds. It connects anew only when
// a ping is due: that has to be sooner than downAfter, or a restart of the master is taken for
// its end. But it promotes no replica that it hasn't heard of for five pings' time. A busy
// machine may hold the sentinel up for long: it must not take that for a broken clock, and do
// nothing for 30 s. Sentinels before Redis 7 can't be told, and are only slower.
func (s *Server) hurry() {
	_ = s.ask("SENTINEL", "DEBUG", "PING-PERIOD", 400, "INFO-PERIOD", 500, "ASK-PERIOD", 200,
		"PUBLISH-PERIOD", 200, "TILT-TRIGGER", 20000)
}

func countReplicas(t testing.TB, master *Server) int {
	t.Helper()
	info, err := master.ask("INFO", "replication").Text()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(info, "connected_slaves:")
	digits, _, _ := strings.Cut(rest, "\r\n")
	n, err := strconv.Atoi(digits)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// watches tells whether a sentinel is in touch with all who take part in a failover.
func (s *Server) watches(name string, sentinels, replicas int) bool {
	c := redis.NewSentinelClient(s.options())
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	master, err := c.Master(ctx, name).Result()
	if err != nil || master["flags"] != "master" {
		return false
	}
	others, err := c.Sentinels(ctx, name).Result()
	if err != nil || len(others) != sentinels {
		return false
	}
	known, err := c.Replicas(ctx, name).Result()
	if err != nil || len(known) != replicas {
		return false
	}
	for _, o := range others {
		if o["flags"] != "sentinel" {
			return false
		}
	}
	for _, r := range known {
		if r["flags"] != "slave" || r["master-link-status"] != "ok" {
			return false
		}
	}
	return true
}

// Addresses returns the sentinels' addresses.
func (s *Sentinels) Addresses() []string { return addresses(s.Nodes) }

// Master returns the address of the master, as the first sentinel says that is neither killed
// nor paused. Others may not know yet when it has changed.
func (s *Sentinels) Master() string {
	s.t.Helper()
	for _, node := range s.Nodes {
		if node.answers() {
			return s.masterBy(node)
		}
	}
	s.t.Fatal("no sentinel is there to say who is the master")
	return ""
}

// masterBy returns the address of the master, as a sentinel says.
func (s *Sentinels) masterBy(node *Server) string {
	s.t.Helper()
	at, err := node.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.Name).StringSlice()
	if err != nil || len(at) != 2 {
		s.t.Fatalf("sentinel %s says that the master of %q is at %q: %v", node.address, s.Name, at, err)
	}
	return net.JoinHostPort(at[0], at[1])
}

// AwaitMaster waits until a server is the master, and every sentinel says so that is neither
// killed nor paused. A sentinel that is killed earlier may take the news with it.
func (s *Sentinels) AwaitMaster(want *Server) {
	s.t.Helper()
	for _, node := range s.Nodes {
		eventually(s.t, fmt.Sprintf("sentinel %s says that %s is the master", node.address, want.address), func() bool {
			return !node.answers() || s.masterBy(node) == want.address
		})
	}
	eventually(s.t, want.address+" is the master", func() bool {
		return want.says([]string{"role:master"}, "INFO", "replication")
	})
}

func addresses(nodes []*Server) []string {
	var all []string
	for _, node := range nodes {
		all = append(all, node.address)
	}
	return all
}
