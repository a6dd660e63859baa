package commands

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/creack/pty"

	"cbproxy/internal/e2e/harness"
)

// terminal emulates a terminal window in which a command runs. It supports line ends, colours, cursor home, clearing and
// line wrap.
type terminal struct {
	t       testing.TB
	file    *os.File // the controlling side of the pseudo-terminal
	command *exec.Cmd
	closed  chan struct{} // closed after the last output

	mu            sync.Mutex // guards the fields below
	columns, rows int
	lines         [][]rune
	x, y          int
	homes         int    // how often the cursor has moved home, which begins a redraw
	scrolled      int    // lines scrolled out of the window since the first redraw
	colours       bool   // a colour was set
	raw           []byte // all output
	pending       []byte // output that is not executed yet
}

// startTerminal runs a cbproxy command in a terminal window.
func startTerminal(t testing.TB, columns, rows int, environment []string, args ...string) *terminal {
	t.Helper()
	s := &terminal{t: t, closed: make(chan struct{}), command: exec.Command(harness.Binary(), args...)}
	s.setSize(columns, rows)
	s.command.Env = append(os.Environ(), environment...)
	file, err := pty.StartWithSize(s.command, &pty.Winsize{Cols: uint16(columns), Rows: uint16(rows)})
	if err != nil {
		t.Fatal(err)
	}
	s.file = file
	go func() {
		defer close(s.closed)
		_, _ = io.Copy(s, struct{ io.Reader }{file}) // until the command exits
	}()
	t.Cleanup(func() {
		_ = s.command.Process.Kill()
		_ = s.command.Wait()
		_ = file.Close()
		<-s.closed
		if t.Failed() {
			t.Logf("window:\n%s\nlast output: %q", s, s.raw[max(0, len(s.raw)-2000):])
		}
	})
	return s
}

// setSize sets the size of the emulation. The caller holds mu, unless the command has not started.
func (s *terminal) setSize(columns, rows int) {
	s.columns, s.rows = columns, rows
	for len(s.lines) < rows {
		s.lines = append(s.lines, nil)
	}
	s.lines = s.lines[:rows]
	s.y = min(s.y, rows-1)
}

// resetScrolled sets scrolled to 0. It is needed after the window was made smaller: a status that was drawn for the larger
// window may have arrived later and scrolled.
func (s *terminal) resetScrolled() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scrolled = 0
}

// resize changes the size of the window and sends SIGWINCH to the command.
func (s *terminal) resize(columns, rows int) {
	s.t.Helper()
	s.mu.Lock()
	s.setSize(columns, rows)
	s.mu.Unlock()
	if err := pty.Setsize(s.file, &pty.Winsize{Cols: uint16(columns), Rows: uint16(rows)}); err != nil {
		s.t.Fatal(err)
	}
}

// interrupt types Ctrl-C and returns the exit status.
func (s *terminal) interrupt() int {
	s.t.Helper()
	if _, err := io.WriteString(s.file, "\x03"); err != nil {
		s.t.Fatal(err)
	}
	<-s.closed
	_ = s.command.Wait() // the exit status is checked instead
	return s.command.ProcessState.ExitCode()
}

// Write executes output of the command. It keeps an incomplete character or control sequence until the rest arrives.
func (s *terminal) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw = append(s.raw, p...)
	s.pending = append(s.pending, p...)
	for len(s.pending) > 0 {
		n := s.execute(s.pending)
		if n == 0 {
			break // incomplete
		}
		s.pending = s.pending[n:]
	}
	return len(p), nil
}

// execute executes the first character or control sequence and returns its length, 0 if it is incomplete. The caller
// holds mu.
func (s *terminal) execute(p []byte) int {
	switch p[0] {
	case '\r':
		s.x = 0
		return 1
	case '\n':
		s.down()
		return 1
	case '\x1b':
		end := strings.IndexAny(string(p), "ABCDHJKhlm")
		if end < 0 {
			return 0
		}
		s.control(string(p[1 : end+1]))
		return end + 1
	}
	if !utf8.FullRune(p) {
		return 0
	}
	r, size := utf8.DecodeRune(p)
	if s.x == s.columns {
		s.x = 0
		s.down()
	}
	line := s.lines[s.y]
	for len(line) <= s.x {
		line = append(line, ' ')
	}
	line[s.x] = r
	s.lines[s.y] = line
	s.x++
	return size
}

// down moves the cursor down, and scrolls at the bottom.
func (s *terminal) down() {
	if s.y++; s.y < s.rows {
		return
	}
	s.y = s.rows - 1
	s.lines = append(s.lines[1:], nil)
	if s.homes > 0 {
		s.scrolled++
	}
}

// control executes a control sequence, without the escape character.
func (s *terminal) control(sequence string) {
	switch {
	case sequence == "[H":
		s.x, s.y = 0, 0
		s.homes++
	case sequence == "[2K":
		s.lines[s.y] = nil
	case sequence == "[J":
		for y := s.y + 1; y < s.rows; y++ {
			s.lines[y] = nil
		}
		if s.x < len(s.lines[s.y]) {
			s.lines[s.y] = s.lines[s.y][:s.x]
		}
	case strings.HasSuffix(sequence, "m"):
		s.colours = true
	default:
		s.t.Errorf("unsupported control sequence %q", sequence)
	}
}

// String returns the text in the window.
func (s *terminal) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, line := range s.lines {
		b.WriteString(strings.TrimRight(string(line), " ") + "\n")
	}
	return b.String()
}

// stats returns the number of redraws and of scrolled lines, and whether a colour was set.
func (s *terminal) stats() (homes, scrolled int, colours bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.homes, s.scrolled, s.colours
}

// awaitText waits until the window shows each of the texts.
func (s *terminal) awaitText(texts ...string) {
	s.t.Helper()
	for _, text := range texts {
		harness.Eventually(s.t, "the window shows "+text, func() bool { return strings.Contains(s.String(), text) })
	}
}
