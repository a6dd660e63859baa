package redistest

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// short is how long a test waits for what must not come.
const short = 200 * time.Millisecond

// try sends a command that has to be answered soon.
func try(c redis.UniversalClient, within time.Duration, args ...any) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return c.Do(ctx, args...).Text()
}

func mustSay(t *testing.T, c redis.UniversalClient, want string, args ...any) {
	t.Helper()
	if got, err := try(c, patience, args...); err != nil || got != want {
		t.Fatalf("%v: %q, %v, want %q", args, got, err, want)
	}
}

func mustTimeOut(t *testing.T, c redis.UniversalClient) {
	t.Helper()
	_, err := try(c, short, "PING")
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("PING: %v, want a timeout", err)
	}
}

func mustRefuse(t *testing.T, address string) {
	t.Helper()
	if c, err := net.Dial("tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("dial: %v, %v, want a refusal", c, err)
	}
}

func mustFail(t *testing.T, c redis.UniversalClient, prefix string, args ...any) {
	t.Helper()
	if _, err := try(c, patience, args...); err == nil || !strings.HasPrefix(err.Error(), prefix) {
		t.Fatalf("%v: %v, want %s", args, err, prefix)
	}
}

func TestServerForgetsOverRestart(t *testing.T) {
	t.Parallel()
	s := Start(t)
	c := s.Client()
	mustSay(t, c, "OK", "SET", "k", "v")
	if want := "redis://" + s.Address(); s.URL() != want {
		t.Errorf("URL %q, want %q", s.URL(), want)
	}
	s.Kill()
	mustRefuse(t, s.Address())
	s.Restart()
	if got, err := try(c, patience, "GET", "k"); !errors.Is(err, redis.Nil) {
		t.Errorf("after the restart: %q, %v", got, err)
	}
	s.Restart()
	mustSay(t, c, "PONG", "PING")
}

func TestServerRemembersIfAsked(t *testing.T) {
	t.Parallel()
	s := Start(t, "--appendonly", "yes", "--appendfsync", "always")
	c := s.Client()
	mustSay(t, c, "OK", "SET", "k", "v")
	s.Restart()
	mustSay(t, c, "v", "GET", "k")
}

func TestServerIsPaused(t *testing.T) {
	t.Parallel()
	s := Start(t)
	c := s.Client()
	mustSay(t, c, "PONG", "PING")
	s.Pause()
	mustTimeOut(t, c)
	s.Resume()
	mustSay(t, c, "PONG", "PING")
	s.Pause()
	s.Restart() // a paused process can be killed as well
	mustSay(t, c, "PONG", "PING")
}

func TestServerDemandsPassword(t *testing.T) {
	t.Parallel()
	s := Start(t, "--requirepass", `p "a" ss`)
	mustSay(t, s.Client(), "PONG", "PING")
	mustFail(t, s.Client(func(o *redis.Options) { o.Password = "" }), "NOAUTH", "PING")
}

func TestServersInParallel(t *testing.T) {
	t.Parallel()
	for range 8 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			mustSay(t, Start(t).Client(), "OK", "SET", "k", "v")
		})
	}
}

func TestReplica(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"--requirepass", "secret"}} {
		master := Start(t, args...)
		mustSay(t, master.Client(), "OK", "SET", "k", "v")
		replica := StartReplica(t, master)
		mustSay(t, replica.Client(), "v", "GET", "k")
		mustFail(t, replica.Client(), "READONLY", "SET", "k", "w")
		master.Kill()
		replica.Restart()
		if got, err := try(replica.Client(), patience, "GET", "k"); !errors.Is(err, redis.Nil) {
			t.Errorf("the replica kept %q, %v", got, err)
		}
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	s := StartTLS(t)
	mustSay(t, s.Client(), "PONG", "PING")
	if want := "rediss://" + s.Address(); s.URL() != want {
		t.Errorf("URL %q, want %q", s.URL(), want)
	}
	change := func(f func(*tls.Config)) func(*redis.Options) {
		c := s.TLSConfig()
		f(c)
		return func(o *redis.Options) { o.TLSConfig = c }
	}
	mustSay(t, s.Client(change(func(c *tls.Config) { c.ServerName = "localhost" })), "PONG", "PING")
	if _, err := try(s.Client(change(func(c *tls.Config) { c.Certificates = nil })), patience, "PING"); err == nil {
		t.Error("a client without a certificate was let in")
	}
	if _, err := try(s.Client(change(func(c *tls.Config) { c.RootCAs = nil })), patience, "PING"); err == nil {
		t.Error("a client trusted an unknown authority")
	}
	if _, err := try(s.Client(func(o *redis.Options) { o.TLSConfig = nil }), patience, "PING"); err == nil {
		t.Error("the server spoke without TLS")
	}
	if _, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.CAFile); err != nil {
		t.Error(err)
	}
}

func TestSentinelsPromoteReplica(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"--requirepass", "secret", "--masterauth", "secret"}} {
		t.Run(strings.Join(args, ""), func(t *testing.T) {
			t.Parallel()
			testFailover(t, args)
		})
	}
}

func testFailover(t *testing.T, args []string) {
	master := Start(t, args...)
	replica := StartReplica(t, master)
	sentinels := StartSentinels(t, master, "main", 3, 2, args[:len(args)/2]...)
	if got := sentinels.Master(); got != master.Address() || len(sentinels.Addresses()) != 3 {
		t.Fatalf("the master is %s, of %v", got, sentinels.Addresses())
	}
	master.Kill()
	sentinels.AwaitMaster(replica)
	mustSay(t, replica.Client(), "OK", "SET", "k", "v")
	sentinels.Nodes[0].Kill()
	if got := sentinels.Master(); got != replica.Address() {
		t.Errorf("the others say that the master is %s", got)
	}
	replica.Restart()
	mustSay(t, replica.Client(), "OK", "SET", "k", "v") // it's no replica again
	master.Restart()
	eventually(t, "one of them is a replica of the other", func() bool {
		return readOnly(master) != readOnly(replica)
	})
}

func readOnly(s *Server) bool {
	_, err := try(s.Client(), patience, "SET", "k", "v")
	return err != nil && strings.HasPrefix(err.Error(), "READONLY")
}

func TestCluster(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"--requirepass", "secret"}} {
		t.Run(strings.Join(args, ""), func(t *testing.T) {
			t.Parallel()
			testCluster(t, StartCluster(t, 3, args...))
		})
	}
}

func testCluster(t *testing.T, c *Cluster) {
	const key, near = "{tag}a", "{tag}b"
	client := c.Client()
	mustSay(t, client, "OK", "SET", key, "v")
	mustSay(t, client, "OK", "SET", near, "w")
	owner := c.Owner(key)
	mustSay(t, owner.Client(), "v", "GET", key)
	var other *Server
	for _, node := range c.Nodes {
		if node != owner {
			other = node
			mustFail(t, node.Client(), "MOVED", "GET", key)
		}
	}
	c.Move(key, other)
	if got := c.Owner(key); got != other {
		t.Fatalf("the slot is at %s, want %s", got.Address(), other.Address())
	}
	mustFail(t, owner.Client(), "MOVED", "GET", key)
	mustSay(t, other.Client(), "v", "GET", key)
	mustSay(t, client, "v", "GET", key)
	mustSay(t, client, "w", "GET", near)
	owner.Kill()
	if got := c.Owner(key); got != other {
		t.Fatalf("without its old node, the slot is at %s", got.Address())
	}
	owner.Restart()
	c.AwaitOK()
	mustSay(t, client, "v", "GET", key)
}

func TestRelayDelays(t *testing.T) {
	t.Parallel()
	r := StartRelay(t, Start(t).Address())
	c := through(t, r)
	mustSay(t, c, "PONG", "PING")
	r.Delay(short)
	begin := time.Now()
	mustSay(t, c, "PONG", "PING")
	if took := time.Since(begin); took < short {
		t.Errorf("PING took %v, want %v at least", took, short)
	}
	r.Delay(0)
	mustSay(t, c, "PONG", "PING")
}

// A delay holds every answer for as long, not one after another.
func TestRelayDelayIsPipeline(t *testing.T) {
	t.Parallel()
	r := StartRelay(t, Start(t).Address())
	c, err := net.Dial("tcp", r.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r.Delay(short)
	const pings, between = 30, 10 * time.Millisecond
	begin := time.Now()
	go func() {
		for range pings {
			_, _ = c.Write([]byte("PING\r\n"))
			time.Sleep(between)
		}
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	_ = c.SetReadDeadline(begin.Add(patience))
	read, err := io.ReadAll(c)
	if want := strings.Repeat("+PONG\r\n", pings); err != nil || string(read) != want {
		t.Fatalf("%q, %v", read, err)
	}
	if took := time.Since(begin); took < short+pings*between || took > pings*short/2 {
		t.Errorf("took %v", took)
	}
}

func TestRelayIsBlackhole(t *testing.T) {
	t.Parallel()
	s := Start(t)
	r := StartRelay(t, s.Address())
	c, fresh := through(t, r), through(t, r)
	mustSay(t, c, "PONG", "PING")
	r.Blackhole(true)
	mustTimeOut(t, c)
	mustTimeOut(t, fresh)
	mustSay(t, s.Client(), "PONG", "PING")
	r.Blackhole(false)
	mustSay(t, c, "PONG", "PING")
	mustSay(t, fresh, "PONG", "PING")
}

// Who is on the other side of a black hole doesn't learn that the server is gone.
func TestRelayBlackholeHidesEnd(t *testing.T) {
	t.Parallel()
	s := Start(t)
	r := StartRelay(t, s.Address())
	c := through(t, r)
	mustSay(t, c, "PONG", "PING")
	r.Blackhole(true)
	s.Kill()
	mustTimeOut(t, c)
	mustTimeOut(t, through(t, r))
	r.Blackhole(false)
	if _, err := try(c, patience, "PING"); err == nil {
		t.Error("a server that is gone answered")
	}
}

func TestRelayIsCut(t *testing.T) {
	t.Parallel()
	s := Start(t)
	r := StartRelay(t, s.Address())
	open, err := net.Dial("tcp", r.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	c := through(t, r)
	mustSay(t, c, "PONG", "PING")
	r.Cut()
	_ = open.SetReadDeadline(time.Now().Add(patience))
	if _, err := open.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection outlived the cut: %v", err)
	}
	mustRefuse(t, r.Address())
	r.Mend()
	mustSay(t, c, "PONG", "PING")
}

func through(t *testing.T, r *Relay) *redis.Client {
	s := &Server{t: t, address: r.Address()}
	return s.Client()
}

func TestPortIsTaken(t *testing.T) {
	t.Parallel()
	s := Start(t)
	var log journal
	p, err := run([]string{s.file()}, plain.ready, &log)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.await(); !errors.Is(err, errPortTaken) {
		t.Errorf("a second server at the port: %v\n%s", err, log.tail())
	}
}

func TestDeathAtStartIsTold(t *testing.T) {
	t.Parallel()
	Need(t)
	var log journal
	p, err := run([]string{"--no-such-option", "1"}, plain.ready, &log)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.await(); err == nil || !strings.Contains(log.tail(), "no-such-option") {
		t.Errorf("%v: %q", err, log.tail())
	}
}

// witness notes what is said to a test, and leaves as the testing package does.
type witness struct {
	testing.TB
	said string
}

func (w *witness) Helper()           {}
func (w *witness) Skip(args ...any)  { w.said = "skip" }
func (w *witness) Fatal(args ...any) { w.said = "fatal" }

func TestNeed(t *testing.T) {
	if _, err := exec.LookPath(program); err == nil {
		w := &witness{}
		if Need(w); w.said != "" {
			t.Errorf("with Redis: %s", w.said)
		}
	}
	t.Setenv("PATH", t.TempDir())
	for ci, want := range map[string]string{"": "skip", "true": "fatal"} {
		t.Setenv("CI", ci)
		w := &witness{}
		if Need(w); w.said != want {
			t.Errorf("without Redis, CI=%q: %q, want %q", ci, w.said, want)
		}
	}
}
