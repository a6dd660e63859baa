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

// patience bounds every wait: far more than anything takes, even on a busy machine.
const patience = 20 * time.Second

// interval is how often a wait looks.
const interval = 5 * time.Millisecond

var errPortTaken = errors.New("the port is taken")

// eventually waits until done says so.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(interval) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// process is one run of redis-server.
type process struct {
	command *exec.Cmd
	ready   chan struct{} // closed when it serves
	ended   chan struct{} // closed when nobody can write to its output any more
	taken   bool          // somebody else has its port; set before ended is closed
}

// run starts redis-server. Who calls it waits.
func run(args []string, ready string, log *journal) (*process, error) {
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

// follow reads what the process says: the only word of its readiness that can't come from
// another server at the same port.
func (p *process) follow(output *os.File, ready string, log *journal) {
	defer close(p.ended)
	defer output.Close()
	told := false
	for lines := bufio.NewReader(output); ; {
		line, err := lines.ReadString('\n')
		log.add(line)
		if err != nil {
			return
		}
		p.taken = p.taken || strings.Contains(line, "Address already in use")
		if !told && strings.Contains(line, ready) {
			told = true
			close(p.ready)
		}
	}
}

// await waits until the process serves.
func (p *process) await() error {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-p.ready:
		return nil
	case <-p.ended:
		err := p.command.Wait()
		if p.taken {
			return errPortTaken
		}
		return fmt.Errorf("it died at start: %v", err)
	case <-late.C:
		p.kill()
		return fmt.Errorf("it isn't ready within %v", patience)
	}
}

// kill ends the process. It waits for the output to end, as a child that saves outlives its
// server for a moment and writes to its folder.
func (p *process) kill() {
	_ = p.command.Process.Kill()
	_ = p.command.Wait()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-p.ended:
	case <-late.C:
	}
}

// journal keeps the last of what a server says, over all its runs.
type journal struct {
	mu   sync.Mutex
	text string
}

const journalSize = 8 << 10

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text += line
	j.text = j.text[max(len(j.text)-journalSize, 0):]
}

func (j *journal) tail() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text
}

// Servers listen below the ports that systems give to outgoing connections: none of those can
// take the port of a server that is down for a moment. Nor can they take the second port of a
// cluster's node, which is 10000 higher.
const (
	firstPort = 12000
	ports     = 10000
)

var (
	givenMu sync.Mutex
	given   = map[string]bool{}
)

// newAddress returns a loopback address that nobody else in this process has until it's given
// back. It's drawn at random, as other processes draw from the same.
func newAddress() (address, port string) {
	givenMu.Lock()
	defer givenMu.Unlock()
	for {
		port = strconv.Itoa(firstPort + rand.IntN(ports))
		address = net.JoinHostPort("127.0.0.1", port)
		if !given[address] {
			given[address] = true
			return address, port
		}
	}
}

func giveBack(address string) {
	givenMu.Lock()
	defer givenMu.Unlock()
	delete(given, address)
}
