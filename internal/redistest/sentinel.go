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

// Sentinels are processes that monitor a master, and promote a replica when it fails.
type Sentinels struct {
	// Name is the name of the master.
	Name string
	// Nodes are the processes. They can be killed and paused like servers.
	Nodes []*Server

	t testing.TB
}

// StartSentinels starts n Sentinels that monitor the master and its replicas, which must be running. quorum is how many of them must find
// the master down. StartSentinels waits until they have found each other and the replicas. args are more options of each, for example
// "--requirepass", "x" or "--sentinel", "down-after-milliseconds", name, "1000".
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
		s.Nodes = append(s.Nodes, startServer(t, sentinel, append(all, args...)))
	}
	replicas := countReplicas(t, master)
	for _, node := range s.Nodes {
		eventually(t, fmt.Sprintf("sentinel %s monitors %d sentinels and %d replicas", node.address, n-1, replicas), func() bool {
			return node.monitorsAll(name, n-1, replicas)
		})
	}
	return s
}

// downAfter is the time in milliseconds after which a Sentinel finds a server down. It is longer than a restart.
const downAfter = "1000"

// shortenPeriods reduces the check periods of a Sentinel from seconds to fractions of one. The ping period must be shorter than downAfter,
// because a Sentinel reconnects only when a ping is due, and otherwise takes a restart of the master for a failure. It must not be too
// short, because a Sentinel promotes no replica that has not answered for five periods. The TILT trigger is long, because a Sentinel that is
// delayed on a busy machine otherwise stops working for 30 s. Sentinels before Redis 7 do not support the command, and are only slower.
func (s *Server) shortenPeriods() {
	_ = s.do("SENTINEL", "DEBUG", "PING-PERIOD", 400, "INFO-PERIOD", 500, "ASK-PERIOD", 200,
		"PUBLISH-PERIOD", 200, "TILT-TRIGGER", 20000)
}

func countReplicas(t testing.TB, master *Server) int {
	t.Helper()
	info, err := master.do("INFO", "replication").Text()
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

// monitorsAll reports whether a Sentinel is connected to the master, to all replicas and to all other Sentinels.
func (s *Server) monitorsAll(name string, sentinels, replicas int) bool {
	c := redis.NewSentinelClient(s.options())
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
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

// Addresses returns the addresses of the Sentinels.
func (s *Sentinels) Addresses() []string { return addresses(s.Nodes) }

// Master returns the address of the master that the first running Sentinel reports. After a failover the others may still report the old
// one.
func (s *Sentinels) Master() string {
	s.t.Helper()
	for _, node := range s.Nodes {
		if node.running() {
			return s.masterKnownTo(node)
		}
	}
	s.t.Fatal("no sentinel is running")
	return ""
}

// masterKnownTo returns the address of the master that a Sentinel reports.
func (s *Sentinels) masterKnownTo(node *Server) string {
	s.t.Helper()
	at, err := node.do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.Name).StringSlice()
	if err != nil || len(at) != 2 {
		s.t.Fatalf("sentinel %s reports the master %q at %q: %v", node.address, s.Name, at, err)
	}
	return net.JoinHostPort(at[0], at[1])
}

// AwaitMaster waits until a server is the master and every running Sentinel reports it. If a Sentinel is killed earlier, the others may not
// learn of the failover.
func (s *Sentinels) AwaitMaster(want *Server) {
	s.t.Helper()
	for _, node := range s.Nodes {
		eventually(s.t, fmt.Sprintf("sentinel %s reports %s as the master", node.address, want.address), func() bool {
			return !node.running() || s.masterKnownTo(node) == want.address
		})
	}
	eventually(s.t, want.address+" is the master", func() bool {
		return want.replyHasLines([]string{"role:master"}, "INFO", "replication")
	})
}

func addresses(nodes []*Server) []string {
	var all []string
	for _, node := range nodes {
		all = append(all, node.address)
	}
	return all
}
