package commands

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unicode/utf8"

	"github.com/creack/pty"

	"cbproxy/internal/e2e/harness"
)

// terminal is an emulated terminal window that runs a command. It supports line ends, colours, cursor home,
// clearing and line wrap.
type terminal struct {
	t       testing.TB
	file    *os.File // what the user types and sees
	command *exec.Cmd
	gone    chan struct{} // closed when there is no more to see

	mu            sync.Mutex // guards what follows
	columns, rows int
	lines         [][]rune
	x, y          int
	homes         int  // how often a picture was begun
	scrolled      int  // lines that have left the window since the first one was
	colours       bool // there was one
	raw           []byte
	pending       []byte
}

// startTerminal runs a cbproxy command in a terminal window.
func startTerminal(t testing.TB, columns, rows int, environment []string, args ...string) *terminal {
	t.Helper()
	s := &terminal{t: t, gone: make(chan struct{}), command: exec.Command(harness.Binary, args...)}
	s.resized(columns, rows)
	s.command.Env = append(os.Environ(), environment...)
	file, err := pty.StartWithSize(s.command, &pty.Winsize{Cols: uint16(columns), Rows: uint16(rows)})
	if err != nil {
		t.Fatal(err)
	}
	s.file = file
	go func() {
		defer close(s.gone)
		_, _ = io.Copy(s, struct{ io.Reader }{file}) // until the command has ended
	}()
	t.Cleanup(func() {
		_ = s.command.Process.Kill()
		_ = s.command.Wait()
		_ = file.Close()
		<-s.gone
		if t.Failed() {
			t.Logf("in the window:\n%s\nlast: %q", s, s.raw[max(0, len(s.raw)-2000):])
		}
	})
	return s
}

func (s *terminal) resized(columns, rows int) {
	s.columns, s.rows = columns, rows
	for len(s.lines) < rows {
		s.lines = append(s.lines, nil)
	}
	s.lines = s.lines[:rows]
	s.y = min(s.y, rows-1)
}

// forget forgets what has left the window, as it must when a picture for a larger one was on its way.
func (s *terminal) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scrolled = 0
}

// resize makes the window larger or smaller, as a user does.
func (s *terminal) resize(columns, rows int) {
	s.t.Helper()
	s.mu.Lock()
	s.resized(columns, rows)
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
	<-s.gone
	_ = s.command.Wait() // the exit status is checked instead
	return s.command.ProcessState.ExitCode()
}

// Write takes what the command has written.
func (s *terminal) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw = append(s.raw, p...)
	s.pending = append(s.pending, p...)
	for len(s.pending) > 0 {
		n := s.execute(s.pending)
		if n == 0 {
			break // the rest is still to come
		}
		s.pending = s.pending[n:]
	}
	return len(p), nil
}

// execute executes the first character or control sequence and returns its length.
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
		s.t.Errorf("the terminal does not know %q", sequence)
	}
}

// String returns what is in the window.
func (s *terminal) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, line := range s.lines {
		b.WriteString(strings.TrimRight(string(line), " ") + "\n")
	}
	return b.String()
}

// seen returns properties of the window besides its text.
func (s *terminal) seen() (homes, scrolled int, colours bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.homes, s.scrolled, s.colours
}

func (s *terminal) shows(texts ...string) {
	s.t.Helper()
	for _, text := range texts {
		harness.Eventually(s.t, "the window shows "+text, func() bool { return strings.Contains(s.String(), text) })
	}
}

// manyRoutes is a configuration of n services.
func manyRoutes(n int) string {
	var b strings.Builder
	b.WriteString("routes:\n")
	for i := range n {
		fmt.Fprintf(&b, "  service_%02d: {prefix: /s%d, upstream: 'http://127.0.0.1:1', breaker: {fail_max: 1, recovery_timeout: 600}}\n", i, i)
	}
	return b.String()
}

func TestWatchRedrawsInPlaceOnTerminal(t *testing.T) {
	t.Parallel()
	p := harness.StartProxy(t, harness.Options{Config: manyRoutes(12)})
	s := startTerminal(t, 100, 24, []string{"TERM=xterm", "NO_COLOR="}, "status", "--watch", "--admin", p.AdminURL)
	s.shows("healthy · instance", "service_00", "service_11")
	p.Get("/s3")
	s.shows("critical", "service_03  open")
	before, scrolled, colours := s.seen()
	if scrolled > 0 || !colours {
		t.Errorf("%d lines were scrolled away, colours %v", scrolled, colours)
	}
	harness.Eventually(t, "ages go on", func() bool { now, _, _ := s.seen(); return now > before })

	s.resize(30, 9) // lower than the table, and narrower
	harness.Eventually(t, "it shows what has room", func() bool {
		text := s.String()
		return strings.Contains(text, "service_03  open    ") && strings.Contains(text, "…\n") && strings.HasSuffix(text, "\n… and 8 more lines\n\n") &&
			strings.Count(text, "critical") == 1 && strings.Count(text, "\n\n") == 2 && strings.Count(text, "service_") == 4
	})
	s.forget()
	p.Get("/s11") // which does not fit
	p.Get("/s2")
	s.shows("service_02  open    ")
	s.resize(100, 24)
	s.shows("service_11  open")
	if strings.Contains(s.String(), "more lines") {
		t.Errorf("in a large window again:\n%s", s)
	}
	if _, scrolled, _ := s.seen(); scrolled > 0 {
		t.Errorf("%d lines were scrolled away", scrolled)
	}
	if status := s.interrupt(); status != 0 {
		t.Errorf("interrupted: exit status %d", status)
	}
	if text := s.String(); !strings.Contains(text, "service_11") || strings.Contains(text, "context canceled") {
		t.Errorf("after the end:\n%s", text)
	}
}

func TestLimitedTerminalsGetPlainText(t *testing.T) {
	t.Parallel()
	p := harness.StartProxy(t, harness.Options{Config: manyRoutes(2)})
	p.Get("/s0")
	for name, c := range map[string]struct {
		environment []string
		inPlace     bool
	}{
		"no colour": {[]string{"TERM=xterm", "NO_COLOR=1"}, true},
		"dumb":      {[]string{"TERM=dumb", "NO_COLOR="}, false},
		"unknown":   {[]string{"TERM=", "NO_COLOR="}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startTerminal(t, 80, 24, c.environment, "status", "--watch", "--admin", p.AdminURL)
			s.shows("service_00  open")
			if r := p.Force("service_01", `{"state": "closed"}`); r.Status != 200 {
				t.Fatalf("%+v", r)
			}
			s.shows("closed until released")
			if homes, _, colours := s.seen(); colours || homes > 0 != c.inPlace {
				t.Errorf("colours %v, %d pictures in place", colours, homes)
			}
			if err := s.command.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			<-s.gone
			if err := s.command.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}
