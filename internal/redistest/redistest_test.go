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

// shortWait is how long a test waits for a reply that must not arrive.
const shortWait = 200 * time.Millisecond

// doWithin sends a command and waits for the reply with a timeout.
func doWithin(c redis.UniversalClient, within time.Duration, args ...any) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return c.Do(ctx, args...).Text()
}

func mustReply(t *testing.T, c redis.UniversalClient, want string, args ...any) {
	t.Helper()
	if got, err := doWithin(c, waitTimeout, args...); err != nil || got != want {
		t.Fatalf("%v: %q, %v, want %q", args, got, err, want)
	}
}

func mustTimeOut(t *testing.T, c redis.UniversalClient) {
	t.Helper()
	_, err := doWithin(c, shortWait, "PING")
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
	if _, err := doWithin(c, waitTimeout, args...); err == nil || !strings.HasPrefix(err.Error(), prefix) {
		t.Fatalf("%v: %v, want %s", args, err, prefix)
	}
}

func TestRestartLosesData(t *testing.T) {
	t.Parallel()
	s := Start(t)
	c := s.Client()
	mustReply(t, c, "OK", "SET", "k", "v")
	if want := "redis://" + s.Address(); s.URL() != want {
		t.Errorf("URL %q, want %q", s.URL(), want)
	}
	s.Kill()
	mustRefuse(t, s.Address())
	s.Restart()
	if got, err := doWithin(c, waitTimeout, "GET", "k"); !errors.Is(err, redis.Nil) {
		t.Errorf("after the restart: %q, %v", got, err)
	}
	s.Restart()
	mustReply(t, c, "PONG", "PING")
}

func TestRestartKeepsDataWithAppendOnlyFile(t *testing.T) {
	t.Parallel()
	s := Start(t, "--appendonly", "yes", "--appendfsync", "always")
	c := s.Client()
	mustReply(t, c, "OK", "SET", "k", "v")
	s.Restart()
	mustReply(t, c, "v", "GET", "k")
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	s := Start(t)
	c := s.Client()
	mustReply(t, c, "PONG", "PING")
	s.Pause()
	mustTimeOut(t, c)
	s.Resume()
	mustReply(t, c, "PONG", "PING")
	s.Pause()
	s.Restart() // Restart also kills a paused process
	mustReply(t, c, "PONG", "PING")
}

func TestServerRequiresPassword(t *testing.T) {
	t.Parallel()
	s := Start(t, "--requirepass", `p "a" ss`)
	mustReply(t, s.Client(), "PONG", "PING")
	mustFail(t, s.Client(func(o *redis.Options) { o.Password = "" }), "NOAUTH", "PING")
}

func TestParallelServers(t *testing.T) {
	t.Parallel()
	for range 8 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			mustReply(t, Start(t).Client(), "OK", "SET", "k", "v")
		})
	}
}

func TestReplica(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"--requirepass", "secret"}} {
		master := Start(t, args...)
		mustReply(t, master.Client(), "OK", "SET", "k", "v")
		replica := StartReplica(t, master)
		mustReply(t, replica.Client(), "v", "GET", "k")
		mustFail(t, replica.Client(), "READONLY", "SET", "k", "w")
		master.Kill()
		replica.Restart()
		if got, err := doWithin(replica.Client(), waitTimeout, "GET", "k"); !errors.Is(err, redis.Nil) {
			t.Errorf("the replica kept %q, %v", got, err)
		}
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	s := StartTLS(t)
	mustReply(t, s.Client(), "PONG", "PING")
	if want := "rediss://" + s.Address(); s.URL() != want {
		t.Errorf("URL %q, want %q", s.URL(), want)
	}
	change := func(f func(*tls.Config)) func(*redis.Options) {
		c := s.TLSConfig()
		f(c)
		return func(o *redis.Options) { o.TLSConfig = c }
	}
	mustReply(t, s.Client(change(func(c *tls.Config) { c.ServerName = "localhost" })), "PONG", "PING")
	if _, err := doWithin(s.Client(change(func(c *tls.Config) { c.Certificates = nil })), waitTimeout, "PING"); err == nil {
		t.Error("a client without a certificate was accepted")
	}
	if _, err := doWithin(s.Client(change(func(c *tls.Config) { c.RootCAs = nil })), waitTimeout, "PING"); err == nil {
		t.Error("a client trusted an unknown authority")
	}
	if _, err := doWithin(s.Client(func(o *redis.Options) { o.TLSConfig = nil }), waitTimeout, "PING"); err == nil {
		t.Error("the server accepted a connection without TLS")
	}
	if _, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.CAFile); err != nil {
		t.Error(err)
	}
}

func TestSentinelFailover(t *testing.T) {
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
	mustReply(t, replica.Client(), "OK", "SET", "k", "v")
	sentinels.Nodes[0].Kill()
	if got := sentinels.Master(); got != replica.Address() {
		t.Errorf("the other sentinels report the master %s", got)
	}
	replica.Restart()
	mustReply(t, replica.Client(), "OK", "SET", "k", "v") // it is still the master
	master.Restart()
	eventually(t, "one of them is a replica of the other", func() bool {
		return readOnly(master) != readOnly(replica)
	})
}

func readOnly(s *Server) bool {
	_, err := doWithin(s.Client(), waitTimeout, "SET", "k", "v")
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
	mustReply(t, client, "OK", "SET", key, "v")
	mustReply(t, client, "OK", "SET", near, "w")
	owner := c.Owner(key)
	mustReply(t, owner.Client(), "v", "GET", key)
	var other *Server
	for _, node := range c.Nodes {
		if node != owner {
			other = node
			mustFail(t, node.Client(), "MOVED", "GET", key)
		}
	}
	c.Move(key, other)
	if got := c.Owner(key); got != other {
		t.Fatalf("the slot is owned by %s, want %s", got.Address(), other.Address())
	}
	mustFail(t, owner.Client(), "MOVED", "GET", key)
	mustReply(t, other.Client(), "v", "GET", key)
	mustReply(t, client, "v", "GET", key)
	mustReply(t, client, "w", "GET", near)
	owner.Kill()
	if got := c.Owner(key); got != other {
		t.Fatalf("without its old owner, the slot is owned by %s", got.Address())
	}
	owner.Restart()
	c.AwaitOK()
	mustReply(t, client, "v", "GET", key)
}

func TestRelayDelay(t *testing.T) {
	t.Parallel()
	r := StartRelay(t, Start(t).Address())
	c := clientThrough(t, r)
	mustReply(t, c, "PONG", "PING")
	r.Delay(shortWait)
	begin := time.Now()
	mustReply(t, c, "PONG", "PING")
	if took := time.Since(begin); took < shortWait {
		t.Errorf("PING took %v, want %v at least", took, shortWait)
	}
	r.Delay(0)
	mustReply(t, c, "PONG", "PING")
}

// Every reply is delayed by the same time, and the delays do not add up.
func TestRelayDelayKeepsThroughput(t *testing.T) {
	t.Parallel()
	r := StartRelay(t, Start(t).Address())
	c, err := net.Dial("tcp", r.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r.Delay(shortWait)
	const pings, between = 30, 10 * time.Millisecond
	begin := time.Now()
	go func() {
		for range pings {
			_, _ = c.Write([]byte("PING\r\n"))
			time.Sleep(between)
		}
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	_ = c.SetReadDeadline(begin.Add(waitTimeout))
	read, err := io.ReadAll(c)
	if want := strings.Repeat("+PONG\r\n", pings); err != nil || string(read) != want {
		t.Fatalf("%q, %v", read, err)
	}
	if took := time.Since(begin); took < shortWait+pings*between || took > pings*shortWait/2 {
		t.Errorf("took %v", took)
	}
}

func TestRelayBlackhole(t *testing.T) {
	t.Parallel()
	s := Start(t)
	r := StartRelay(t, s.Address())
	c, fresh := clientThrough(t, r), clientThrough(t, r)
	mustReply(t, c, "PONG", "PING")
	r.Blackhole(true)
	mustTimeOut(t, c)
	mustTimeOut(t, fresh)
	mustReply(t, s.Client(), "PONG", "PING")
	r.Blackhole(false)
	mustReply(t, c, "PONG", "PING")
	mustReply(t, fresh, "PONG", "PING")
}

// A client behind a black hole does not notice that the server has ended.
func TestRelayBlackholeHidesEndOfServer(t *testing.T) {
	t.Parallel()
	s := Start(t)
	r := StartRelay(t, s.Address())
	c := clientThrough(t, r)
	mustReply(t, c, "PONG", "PING")
	r.Blackhole(true)
	s.Kill()
	mustTimeOut(t, c)
	mustTimeOut(t, clientThrough(t, r))
	r.Blackhole(false)
	if _, err := doWithin(c, waitTimeout, "PING"); err == nil {
		t.Error("a killed server answered")
	}
}

func TestRelayCutAndMend(t *testing.T) {
	t.Parallel()
	s := Start(t)
	r := StartRelay(t, s.Address())
	conn, err := net.Dial("tcp", r.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := clientThrough(t, r)
	mustReply(t, c, "PONG", "PING")
	r.Cut()
	_ = conn.SetReadDeadline(time.Now().Add(waitTimeout))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection outlived the cut: %v", err)
	}
	mustRefuse(t, r.Address())
	r.Mend()
	mustReply(t, c, "PONG", "PING")
}

func clientThrough(t *testing.T, r *Relay) *redis.Client {
	s := &Server{t: t, address: r.Address()}
	return s.Client()
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	s := Start(t)
	var log logBuffer
	p, err := run([]string{s.file()}, plain.ready, &log)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.await(); !errors.Is(err, errPortTaken) {
		t.Errorf("a second server at the port: %v\n%s", err, log.tail())
	}
}

func TestFailureAtStartIsReported(t *testing.T) {
	t.Parallel()
	Need(t)
	var log logBuffer
	p, err := run([]string{"--no-such-option", "1"}, plain.ready, &log)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.await(); err == nil || !strings.Contains(log.tail(), "no-such-option") {
		t.Errorf("%v: %q", err, log.tail())
	}
}

// recordingTB records whether Skipf or Fatalf was called.
type recordingTB struct {
	testing.TB
	called string
}

func (w *recordingTB) Helper()               {}
func (w *recordingTB) Skipf(string, ...any)  { w.called = "skip" }
func (w *recordingTB) Fatalf(string, ...any) { w.called = "fatal" }

func TestNeed(t *testing.T) {
	if _, err := exec.LookPath(program); err == nil {
		w := &recordingTB{}
		if Need(w); w.called != "" {
			t.Errorf("with Redis: %s", w.called)
		}
	}
	t.Setenv("PATH", t.TempDir())
	for ci, want := range map[string]string{"": "skip", "true": "fatal"} {
		t.Setenv("CI", ci)
		w := &recordingTB{}
		if Need(w); w.called != want {
			t.Errorf("without Redis, CI=%q: %q, want %q", ci, w.called, want)
		}
	}
}
