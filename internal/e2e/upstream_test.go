package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// serveUpstream runs an upstream process. The request path selects its behaviour.
func serveUpstream(address string) error {
	var requests atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Fallback", "spoofed")
		w.Header().Set("X-Circuit-Breaker-State", "spoofed")
		fmt.Fprintf(w, `{"target":%q,"header":%q}`, r.RequestURI, fmt.Sprint(r.Header))
	})
	mux.HandleFunc("/requests", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, requests.Load()) })
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		d, _ := time.ParseDuration(r.URL.Query().Get("for"))
		time.Sleep(d)
		fmt.Fprint(w, "done")
	})
	mux.HandleFunc("/hints", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		fmt.Fprint(w, "after hints")
	})
	mux.HandleFunc("/events", streamEvents)
	mux.HandleFunc("/socket", echoSocket)
	return http.ListenAndServe(address, mux)
}

// streamEvents sends an event for each byte of the request body as it arrives.
func streamEvents(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	_ = control.EnableFullDuplex()
	w.Header().Set("Content-Type", "text/event-stream")
	_ = control.Flush()
	one := make([]byte, 1)
	for {
		if _, err := r.Body.Read(one); err != nil {
			return
		}
		fmt.Fprintf(w, "data: %s\n\n", one)
		_ = control.Flush()
	}
}

// echoSocket switches to a protocol that echoes all data.
func echoSocket(w http.ResponseWriter, r *http.Request) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
	_ = rw.Flush()
	_, _ = io.Copy(c, rw.Reader)
}

// upstreamProcess is an upstream that can be killed, paused and restarted at its address.
type upstreamProcess struct {
	t           testing.TB
	address     string
	environment []string
	command     *exec.Cmd
}

func startUpstream(t testing.TB) *upstreamProcess {
	t.Helper()
	u := &upstreamProcess{t: t, address: freeAddress(t)}
	u.start()
	t.Cleanup(u.kill)
	return u
}

func (u *upstreamProcess) url() string { return "http://" + u.address }

func (u *upstreamProcess) start() {
	u.t.Helper()
	self, err := os.Executable()
	if err != nil {
		u.t.Fatal(err)
	}
	u.command = exec.Command(self)
	u.command.Env = append(append(os.Environ(), upstreamVariable+"="+u.address), u.environment...)
	u.command.Stderr = os.Stderr
	if err := u.command.Start(); err != nil {
		u.t.Fatal(err)
	}
	eventually(u.t, "upstream listens", func() bool {
		c, err := net.Dial("tcp", u.address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

func (u *upstreamProcess) kill() {
	_ = u.command.Process.Kill()
	_ = u.command.Wait()
}

// pause stops the process. Its sockets stay open, and it does not respond.
func (u *upstreamProcess) pause() {
	u.t.Helper()
	pid := u.command.Process.Pid
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		u.t.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		u.t.Fatalf("wait for the pause: %v, status %v", err, status)
	}
}

func (u *upstreamProcess) resume() {
	u.t.Helper()
	if err := syscall.Kill(u.command.Process.Pid, syscall.SIGCONT); err != nil {
		u.t.Fatal(err)
	}
}

// Ports below those that the kernel gives to whoever asks for any: what is free there is still free a moment
// later. Each test binary begins somewhere else.
const firstPort, ports = 10_000, 20_000

var givenPorts = func() *atomic.Int64 {
	n := new(atomic.Int64)
	n.Store(rand.Int64N(ports))
	return n
}()

// freeAddress returns an unused loopback address that no other call returns.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range ports {
		address := fmt.Sprintf("127.0.0.1:%d", firstPort+givenPorts.Add(1)%ports)
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}
