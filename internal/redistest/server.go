// Package redistest starts real Redis servers for tests: single servers, servers with TLS, with replicas and Sentinels, and clusters. A
// test can kill, pause and restart them. They end with the test. A Relay simulates network faults, and a Scripted server sends the replies
// that a test defines.
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

	"cbproxy/internal/testenv"
)

// Need skips the test if redis-server is not installed. If the environment variable CI is set, it fails the test instead, because CI
// installs Redis and must not skip the tests unnoticed.
func Need(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		testenv.SkipUnlessCI(t, "Redis", err)
	}
}

// kind is the difference between servers, servers with TLS and Sentinels.
type kind struct {
	scheme     string
	portOption string
	ready      string   // the log line when it is ready
	flags      []string // the arguments after the configuration file
	onReady    func(*Server)
}

var (
	plain    = kind{scheme: "redis", portOption: "--port", ready: "Ready to accept connections"}
	withTLS  = kind{scheme: "rediss", portOption: "--tls-port", ready: plain.ready}
	sentinel = kind{scheme: "redis", portOption: "--port", ready: "Sentinel ID is", flags: []string{"--sentinel"}, onReady: (*Server).shortenPeriods}
)

// Server is a Redis process that can be killed, paused and restarted at the same address. Its methods fail the test if they cannot do this,
// so they must be called on the goroutine of the test.
type Server struct {
	t         testing.TB
	kind      kind
	folder    string
	address   string
	password  string
	tlsConfig *tls.Config // nil without TLS

	mu      sync.Mutex // guards the fields below; held while the process starts or ends
	process *process
	stopped bool // killed or paused
	log     logBuffer
}

// Start starts a Redis server without persistence. args are more options in the form of its command line, for example "--requirepass", "x".
// They must not change the log level or the log file, because the log shows when the server is ready.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	defaults := []string{
		"--save", "", "--appendonly", "no",
		"--rdb-del-sync-files", "yes", // otherwise a replica keeps the file that its master sent
		"--repl-diskless-sync-delay", "0", // otherwise a master waits for more replicas
	}
	return startServer(t, plain, append(defaults, args...))
}

// startServer starts a server at a free port. If another process takes the port first, it tries another one.
func startServer(t testing.TB, k kind, args []string) *Server {
	t.Helper()
	Need(t)
	s := &Server{t: t, kind: k, folder: t.TempDir(), password: passwordIn(args)}
	t.Cleanup(s.end)
	for deadline := time.Now().Add(waitTimeout); ; {
		address, port := newAddress()
		s.address = address
		s.configure(append([]string{"--bind", "127.0.0.1", k.portOption, port, "--dir", s.folder}, args...))
		err := s.start()
		if err == nil {
			return s
		}
		if !errors.Is(err, errPortTaken) || time.Now().After(deadline) {
			t.Fatalf("start Redis: %v", err) // end logs its output
		}
		releaseAddress(address)
	}
}

// configure writes the options to a configuration file. Redis updates the file, for example with its master after a failover, and so keeps
// its role over a restart.
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

// passwordIn returns the password that the options require of clients, "" if none.
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

// Client returns a client that is closed at the end of the test. It does not retry, so that a test sees every error. It uses the password of
// --requirepass and the client certificate of StartTLS, unless options change that.
func (s *Server) Client(options ...func(*redis.Options)) *redis.Client {
	c := redis.NewClient(s.options(options...))
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (s *Server) options(change ...func(*redis.Options)) *redis.Options {
	o := &redis.Options{
		Addr:                     s.address,
		Password:                 s.password,
		TLSConfig:                s.tlsConfig,
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

// do sends a command on a separate connection, because a test may count the open connections.
func (s *Server) do(args ...any) *redis.Cmd {
	c := redis.NewClient(s.options())
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	return c.Do(ctx, args...)
}

// replyHasLines reports whether the reply to a command contains all of the lines.
func (s *Server) replyHasLines(lines []string, args ...any) bool {
	text, err := s.do(args...).Text()
	for _, line := range lines {
		if !strings.Contains("\r\n"+text, "\r\n"+line+"\r\n") {
			return false
		}
	}
	return err == nil
}

// Kill ends the server at once, like a crash.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process.kill()
	s.stopped = true
}

// Restart starts the server again at its address and in its folder, and waits until it is ready. It kills a running server first.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	deadline := time.Now().Add(waitTimeout)
	err := s.start()
	for ; errors.Is(err, errPortTaken) && time.Now().Before(deadline); err = s.start() {
		time.Sleep(pollInterval)
	}
	if err != nil {
		s.t.Fatalf("restart Redis: %v", err)
	}
}

// Pause stops the process. Its sockets stay open, but it sends nothing.
func (s *Server) Pause() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	process := s.process.command.Process
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		s.t.Fatal(err)
	}
	var status syscall.WaitStatus
	_, err := syscall.Wait4(process.Pid, &status, syscall.WUNTRACED, nil)
	for err == syscall.EINTR {
		_, err = syscall.Wait4(process.Pid, &status, syscall.WUNTRACED, nil)
	}
	if err != nil || !status.Stopped() {
		s.t.Fatalf("wait for the pause: %v, status %v", err, status)
	}
	s.stopped = true
}

// Resume ends a pause.
func (s *Server) Resume() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.process.command.Process.Signal(syscall.SIGCONT); err != nil {
		s.t.Fatal(err)
	}
	s.stopped = false
}

// running reports whether the server is neither killed nor paused.
func (s *Server) running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.stopped
}

// start starts the process and waits until it is ready.
func (s *Server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := run(append([]string{s.file()}, s.kind.flags...), s.kind.ready, &s.log)
	if err != nil {
		return err
	}
	s.process = p
	err = p.await()
	s.stopped = err != nil
	if err == nil && s.kind.onReady != nil {
		s.kind.onReady(s)
	}
	return err
}

// end kills the process at the end of the test, and logs its output if the test failed.
func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		s.process.kill()
	}
	releaseAddress(s.address)
	if s.t.Failed() {
		s.t.Logf("last output of Redis at %s:\n%s", s.address, s.log.tail())
	}
}

// StartReplica starts a read-only replica and waits until it is in sync. It uses the password of the master, if there is one.
func StartReplica(t testing.TB, of *Server, args ...string) *Server {
	t.Helper()
	host, port, _ := strings.Cut(of.address, ":")
	all := []string{"--replicaof", host, port}
	if of.password != "" {
		all = append(all, "--masterauth", of.password, "--requirepass", of.password)
	}
	s := Start(t, append(all, args...)...)
	eventually(t, fmt.Sprintf("%s is in sync with %s", s.address, of.address), func() bool {
		return s.replyHasLines([]string{"role:slave", "master_link_status:up"}, "INFO", "replication")
	})
	return s
}
