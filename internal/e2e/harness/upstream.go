package harness

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
	mux.HandleFunc("/socket", EchoUpgradedConnection)
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

// EchoUpgradedConnection switches to a protocol that echoes all data.
func EchoUpgradedConnection(w http.ResponseWriter, r *http.Request) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
	_ = rw.Flush()
	_, _ = io.Copy(c, rw.Reader)
}

// Upstream is an upstream that can be killed, paused and restarted at its address.
type Upstream struct {
	T       testing.TB
	Address string
	Env     []string
	Cmd     *exec.Cmd
}

// StartUpstream starts an upstream process, and stops it at the end of the test.
func StartUpstream(t testing.TB) *Upstream {
	t.Helper()
	u := &Upstream{T: t, Address: FreeAddress(t)}
	u.Start()
	t.Cleanup(u.Kill)
	return u
}

// URL returns the base URL of the upstream.
func (u *Upstream) URL() string { return "http://" + u.Address }

// Start starts the process at its address, and waits until it listens.
func (u *Upstream) Start() {
	u.T.Helper()
	self, err := os.Executable()
	if err != nil {
		u.T.Fatal(err)
	}
	u.Cmd = exec.Command(self)
	u.Cmd.Env = append(append(os.Environ(), UpstreamVariable+"="+u.Address), u.Env...)
	u.Cmd.Stderr = os.Stderr
	if err := u.Cmd.Start(); err != nil {
		u.T.Fatal(err)
	}
	Eventually(u.T, "upstream listens", func() bool {
		c, err := net.Dial("tcp", u.Address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// Kill sends SIGKILL to the process and waits for its end.
func (u *Upstream) Kill() {
	_ = u.Cmd.Process.Kill()
	_ = u.Cmd.Wait()
}

// Pause stops the process. Its sockets stay open, and it does not respond.
func (u *Upstream) Pause() {
	u.T.Helper()
	pid := u.Cmd.Process.Pid
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		u.T.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		u.T.Fatalf("wait for the pause: %v, status %v", err, status)
	}
}

// Resume continues a paused process.
func (u *Upstream) Resume() {
	u.T.Helper()
	if err := syscall.Kill(u.Cmd.Process.Pid, syscall.SIGCONT); err != nil {
		u.T.Fatal(err)
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

// FreeAddress returns an unused loopback address that no other call returns.
func FreeAddress(t testing.TB) string {
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
