// Package redistest starts real Redis servers for tests: alone, with TLS, with replicas and
// sentinels, or as a cluster. They are killed, paused and restarted as a test wants, and end
// with it. A relay puts a bad network before any of them.
package redistest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Need skips the test where there is no redis-server. Where the environment variable CI is
// set it fails the test instead: CI installs Redis, and must not skip unseen.
func Need(t testing.TB) {
	t.Helper()
	_, err := exec.LookPath(program)
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatal("CI must have Redis: ", err)
	default:
		t.Skip("needs Redis: ", err)
	}
}

// kind is what differs between servers, sentinels and servers with TLS.
type kind struct {
	scheme     string
	portOption string
	ready      string   // what the log says when it serves
	flags      []string // what the command line has after the configuration file
	settle     func(*Server)
}

var (
	plain    = kind{scheme: "redis", portOption: "--port", ready: "Ready to accept connections"}
	secured  = kind{scheme: "rediss", portOption: "--tls-port", ready: plain.ready}
	sentinel = kind{scheme: "redis", portOption: "--port", ready: "Sentinel ID is", flags: []string{"--sentinel"}, settle: (*Server).hurry}
)

// Server is a Redis process that can be killed, paused and restarted at its address. Its
// methods fail the test when they can't do what they say, and so belong to its goroutine.
type Server struct {
	t        testing.TB
	kind     kind
	folder   string
	address  string
	password string
	security *tls.Config // nil without TLS

	mu      sync.Mutex // held while process is replaced or waited for
	process *process
	silent  bool // killed or paused
	log     journal
}

// Start starts a Redis server that keeps nothing on disk. args are more options, as on its
// command line: "--requirepass", "x". The log has to stay at its level and on standard output:
// it tells when the server is ready.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	defaults := []string{
		"--save", "", "--appendonly", "no",
		"--rdb-del-sync-files", "yes", // a replica would keep what its master sent
		"--repl-diskless-sync-delay", "0", // a master would wait for more replicas
	}
	return launch(t, plain, append(defaults, args...))
}

// launch starts a server at a free port. Somebody else may take the port first: then it tries
// another.
func launch(t testing.TB, k kind, args []string) *Server {
	t.Helper()
	Need(t)
	s := &Server{t: t, kind: k, folder: t.TempDir(), password: passwordIn(args)}
	t.Cleanup(s.end)
	for deadline := time.Now().Add(patience); ; {
		address, port := newAddress()
		s.address = address
		s.configure(append([]string{"--bind", "127.0.0.1", k.portOption, port, "--dir", s.folder}, args...))
		err := s.start()
		if err == nil {
			return s
		}
		if !errors.Is(err, errPortTaken) || time.Now().After(deadline) {
			t.Fatalf("start Redis: %v", err) // end shows what it said
		}
		giveBack(address)
	}
}

// configure writes the options to a file: with a file, Redis remembers over a restart what it
// was told to be, such as whose replica it is since a failover.
func (s *Server) configure(args []string) {
	s.t.Helper()
	var text strings.Builder
	for _, a := range args {
		if name, ok := strings.CutPrefix(a, "--"); ok {
			text.WriteString("\n" + name)
			continue
		}
		text.WriteString(" " + strconv.Quote(a))
	}
	if err := os.WriteFile(s.file(), []byte(text.String()+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) file() string { return filepath.Join(s.folder, "redis.conf") }

// passwordIn returns the password that the options ask of clients; "" if they ask for none.
func passwordIn(args []string) (password string) {
	for i, a := range args {
		if a == "--requirepass" && i+1 < len(args) {
			password = args[i+1]
		}
	}
	return password
}

// Address returns the server's host and port.
func (s *Server) Address() string { return s.address }

// URL returns the server's URL, without credentials.
func (s *Server) URL() string { return s.kind.scheme + "://" + s.address }

// Client returns a client that lives as long as the test. It tries once, so that a test sees
// what the server said. It has the password that --requirepass set, and the client certificate
// that StartTLS made; options can change that.
func (s *Server) Client(options ...func(*redis.Options)) *redis.Client {
	c := redis.NewClient(s.options(options...))
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (s *Server) options(change ...func(*redis.Options)) *redis.Options {
	o := &redis.Options{
		Addr:                     s.address,
		Password:                 s.password,
		TLSConfig:                s.security,
		Protocol:                 2,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		ContextTimeoutEnabled:    true,
		MaxRetries:               -1,
		DialerRetries:            1,
	}
	for _, f := range change {
		f(o)
	}
	return o
}

// ask sends a command on a connection of its own: a test may count those that stay.
func (s *Server) ask(args ...any) *redis.Cmd {
	c := redis.NewClient(s.options())
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return c.Do(ctx, args...)
}

// says tells whether the answer to a command that returns lines has all of those.
func (s *Server) says(lines []string, args ...any) bool {
	text, err := s.ask(args...).Text()
	for _, line := range lines {
		if !strings.Contains("\r\n"+text, "\r\n"+line+"\r\n") {
			return false
		}
	}
	return err == nil
}

// Kill ends the server at once, as a crash does.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process.kill()
	s.silent = true
}

// Restart starts the server again at its address and in its folder, and waits until it
// answers. If it runs it's killed first.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	deadline := time.Now().Add(patience)
	err := s.start()
	for ; errors.Is(err, errPortTaken) && time.Now().Before(deadline); err = s.start() {
		time.Sleep(interval)
	}
	if err != nil {
		s.t.Fatalf("restart Redis: %v", err)
	}
}

// Pause stops the process: its sockets stay open, and it says nothing.
func (s *Server) Pause() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.process.command.Process
	if err := one.Signal(syscall.SIGSTOP); err != nil {
		s.t.Fatal(err)
	}
	var status syscall.WaitStatus
	_, err := syscall.Wait4(one.Pid, &status, syscall.WUNTRACED, nil)
	for err == syscall.EINTR {
		_, err = syscall.Wait4(one.Pid, &status, syscall.WUNTRACED, nil)
	}
	if err != nil || !status.Stopped() {
		s.t.Fatalf("wait for the pause: %v, status %v", err, status)
	}
	s.silent = true
}

// Resume ends a pause.
func (s *Server) Resume() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.process.command.Process.Signal(syscall.SIGCONT); err != nil {
		s.t.Fatal(err)
	}
	s.silent = false
}

// answers tells whether it makes sense to ask the server anything.
func (s *Server) answers() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.silent
}

// start runs the process and waits until it serves.
func (s *Server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := run(append([]string{s.file()}, s.kind.flags...), s.kind.ready, &s.log)
	if err != nil {
		return err
	}
	s.process = p
	err = p.await()
	s.silent = err != nil
	if err == nil && s.kind.settle != nil {
		s.kind.settle(s)
	}
	return err
}

// end ends the process with the test, and says what it said if the test failed.
func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		s.process.kill()
	}
	giveBack(s.address)
	if s.t.Failed() {
		s.t.Logf("Redis at %s said last:\n%s", s.address, s.log.tail())
	}
}

// StartReplica starts a read-only replica and waits until it's in sync. Where the master has a
// password, the replica has the same.
func StartReplica(t testing.TB, of *Server, args ...string) *Server {
	t.Helper()
	host, port, _ := strings.Cut(of.address, ":")
	all := []string{"--replicaof", host, port}
	if of.password != "" {
		all = append(all, "--masterauth", of.password, "--requirepass", of.password)
	}
	s := Start(t, append(all, args...)...)
	eventually(t, fmt.Sprintf("%s is in sync with %s", s.address, of.address), func() bool {
		return s.says([]string{"role:slave", "master_link_status:up"}, "INFO", "replication")
	})
	return s
}
