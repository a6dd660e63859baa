package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const program = "redis-server"

// waitTimeout bounds every wait. It only ends failing tests, so it is long enough for a busy machine.
const waitTimeout = 20 * time.Second

// pollInterval is the time between checks of a condition.
const pollInterval = 5 * time.Millisecond

var errPortTaken = errors.New("the port is in use")

// eventually waits until done returns true.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waitTimeout); !done(); time.Sleep(pollInterval) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", waitTimeout, what)
		}
	}
}

// process is one run of redis-server.
type process struct {
	command   *exec.Cmd
	ready     chan struct{} // closed when it is ready
	ended     chan struct{} // closed at the end of its output
	portTaken bool          // another process uses its port; set before ended is closed
}

// run starts redis-server. The caller must call await.
func run(args []string, ready string, log *logBuffer) (*process, error) {
	output, input, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer input.Close()
	p := &process{command: exec.Command(program, args...), ready: make(chan struct{}), ended: make(chan struct{})}
	p.command.Stdout, p.command.Stderr = input, input
	if err := p.command.Start(); err != nil {
		_ = output.Close()
		return nil, err
	}
	go p.follow(output, ready, log)
	return p, nil
}

// follow reads the output of the process. Unlike a connection, the output cannot come from another server at the same port.
func (p *process) follow(output *os.File, ready string, log *logBuffer) {
	defer close(p.ended)
	defer output.Close()
	signaled := false
	for lines := bufio.NewReader(output); ; {
		line, err := lines.ReadString('\n')
		log.add(line)
		if err != nil {
			return
		}
		p.portTaken = p.portTaken || strings.Contains(line, "Address already in use")
		if !signaled && strings.Contains(line, ready) {
			signaled = true
			close(p.ready)
		}
	}
}

// await waits until the process is ready.
func (p *process) await() error {
	late := time.NewTimer(waitTimeout)
	defer late.Stop()
	select {
	case <-p.ready:
		return nil
	case <-p.ended:
		err := p.command.Wait()
		if p.portTaken {
			return errPortTaken
		}
		return fmt.Errorf("the process ended at start: %v", err)
	case <-late.C:
		p.kill()
		return fmt.Errorf("the process is not ready within %v", waitTimeout)
	}
}

// kill ends the process. It waits for the end of the output, because a child process that saves data may outlive the server briefly and
// write to its folder.
func (p *process) kill() {
	_ = p.command.Process.Kill()
	_ = p.command.Wait()
	late := time.NewTimer(waitTimeout)
	defer late.Stop()
	select {
	case <-p.ended:
	case <-late.C:
	}
}

// logBuffer keeps the last output of a server, over all its runs.
type logBuffer struct {
	mu   sync.Mutex
	text string
}

const logBufferSize = 8 << 10

func (j *logBuffer) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text += line
	j.text = j.text[max(len(j.text)-logBufferSize, 0):]
}

func (j *logBuffer) tail() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text
}

// Servers listen below the ephemeral ports, so that no outgoing connection can use the port of a server that is being restarted. The same
// holds for the second port of a cluster node, which is 10000 higher.
const (
	firstPort = 12000
	ports     = 10000
)

var (
	usedMu sync.Mutex
	used   = map[string]bool{}
)

// newAddress returns a loopback address that is not used in this process until releaseAddress. It is random, because other test processes
// use the same range.
func newAddress() (address, port string) {
	usedMu.Lock()
	defer usedMu.Unlock()
	for {
		port = strconv.Itoa(firstPort + rand.IntN(ports))
		address = net.JoinHostPort("127.0.0.1", port)
		if !used[address] {
			used[address] = true
			return address, port
		}
	}
}

func releaseAddress(address string) {
	usedMu.Lock()
	defer usedMu.Unlock()
	delete(used, address)
}
