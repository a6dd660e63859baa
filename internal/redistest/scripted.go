package redistest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Scripted is a server that reads Redis commands and sends the replies that a test defines.
type Scripted struct {
	listener net.Listener
	answer   func(command []string) string
	work     sync.WaitGroup

	mu          sync.Mutex
	connections map[net.Conn]bool // guarded by mu; nil after end
}

// StartScripted starts a server that sends what answer returns, byte for byte, for each command.
// answer may be called by several goroutines. If tlsConfig is not nil, the server uses TLS.
func StartScripted(t testing.TB, tlsConfig *tls.Config, answer func(command []string) string) *Scripted {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if tlsConfig != nil {
		l = tls.NewListener(l, tlsConfig)
	}
	s := &Scripted{listener: l, answer: answer, connections: map[net.Conn]bool{}}
	s.work.Go(s.accept)
	t.Cleanup(s.end)
	return s
}

// Address returns the server's host and port.
func (s *Scripted) Address() string { return s.listener.Addr().String() }

func (s *Scripted) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.connections == nil {
			_ = c.Close()
		} else {
			s.connections[c] = true
			s.work.Go(func() { s.serve(c) })
		}
		s.mu.Unlock()
	}
}

func (s *Scripted) serve(c net.Conn) {
	defer func() {
		_ = c.Close()
		s.mu.Lock()
		delete(s.connections, c)
		s.mu.Unlock()
	}()
	for r := bufio.NewReader(c); ; {
		command, err := readCommand(r)
		if err != nil {
			return
		}
		if _, err := io.WriteString(c, s.answer(command)); err != nil {
			return
		}
	}
}

func (s *Scripted) end() {
	_ = s.listener.Close()
	s.mu.Lock()
	for c := range s.connections {
		_ = c.Close()
	}
	s.connections = nil
	s.mu.Unlock()
	s.work.Wait()
}

// readCommand reads a command, which is an array of bulk strings.
func readCommand(r *bufio.Reader) (words []string, err error) {
	n, err := readLength(r, '*')
	for range n {
		var size int
		if size, err = readLength(r, '$'); err != nil {
			break
		}
		word := make([]byte, size+2)
		if _, err = io.ReadFull(r, word); err != nil {
			break
		}
		words = append(words, string(word[:size]))
	}
	if err == nil && len(words) == 0 {
		err = errNoCommand
	}
	return words, err
}

var errNoCommand = errors.New("no command")

func readLength(r *bufio.Reader, kind byte) (int, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return 0, err
	}
	digits, ok := strings.CutPrefix(strings.TrimSuffix(line, "\r\n"), string(kind))
	n, err := strconv.Atoi(digits)
	if err != nil || !ok || n < 0 || n > 1<<20 {
		return 0, errNoCommand
	}
	return n, nil
}
