package statusview

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"cbproxy/internal/events"
	"cbproxy/internal/sanitize"

	"github.com/charmbracelet/x/ansi"
	"golang.org/x/term"
)

// Screen prints successive states of the status: in place on a terminal that supports it, otherwise one below the other.
type Screen struct {
	w        io.Writer
	terminal *os.File // nil unless w is a terminal
	paint    Painter
	drawn    bool // the first status has been drawn
}

func NewScreen(w io.Writer) *Screen {
	s := &Screen{w: w, paint: NewPainter(w)}
	if IsTerminal(w) {
		s.terminal = w.(*os.File)
	}
	return s
}

// Show draws the status, below a line with the connection error if there is one.
func (s *Screen) Show(p *Status, connErr error) error {
	var b bytes.Buffer
	if connErr != nil {
		fmt.Fprintf(&b, "%s %s\n", s.paint.paint(red, "CONNECTION LOST, the data below is stale:"), sanitize.Printable(connErr.Error()))
	}
	if err := p.Draw(&b, s.paint, p.Now()); err != nil {
		return err
	}
	if s.terminal == nil {
		_, err := io.WriteString(s.w, b.String()+"\n")
		return err
	}
	columns, rows := s.size()
	_, err := io.WriteString(s.w, s.frame(fit(b.String(), columns, rows-1), rows))
	return err
}

// InPlace reports whether a status is drawn over the previous one.
func (s *Screen) InPlace() bool { return s.terminal != nil }

// size returns the size of the terminal window.
func (s *Screen) size() (columns, rows int) {
	columns, rows, err := term.GetSize(int(s.terminal.Fd()))
	if err != nil || columns < 1 || rows < 1 { // a serial terminal has no size
		return 80, 24
	}
	return columns, rows
}

// frame returns the bytes that draw lines from the top of a window with the given rows, over the previous frame. The first
// frame scrolls the window's previous content up, so it stays in the scrollback. There must be fewer lines than rows.
func (s *Screen) frame(lines []string, rows int) string {
	var b strings.Builder
	if !s.drawn {
		s.drawn = true
		b.WriteString(strings.Repeat("\n", rows))
	}
	b.WriteString("\x1b[H") // home
	for _, line := range lines {
		b.WriteString("\x1b[2K" + line + "\n") // cleared first: after a full line the cursor is not behind it
	}
	b.WriteString("\x1b[J") // clear the rest of the window
	return b.String()
}

// fit cuts a text to the given columns and rows. If lines are left out, the last line says how many.
func fit(text string, columns, rows int) []string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) > rows {
		shown := max(rows-1, 0)
		lines = append(lines[:shown:shown], fmt.Sprintf("… and %d more lines", len(lines)-shown))[:max(rows, 0)]
	}
	for i := range lines {
		lines[i] = ansi.Truncate(lines[i], columns, "…")
	}
	return lines
}

// IsTerminal reports whether w is a terminal that supports escape sequences.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	kind := os.Getenv("TERM")
	return ok && kind != "" && kind != "dumb" && term.IsTerminal(int(f.Fd()))
}

// Painter adds colours to text if it is true.
type Painter bool

// NewPainter returns a Painter that adds colours if w is a terminal and NO_COLOR is not set.
func NewPainter(w io.Writer) Painter {
	return Painter(IsTerminal(w) && os.Getenv("NO_COLOR") == "")
}

// Colour codes. All have the same length, so that the cells of a table's column stay aligned.
const (
	noColour = 39
	red      = 31
	green    = 32
	yellow   = 33
)

func (p Painter) paint(colour int, s string) string {
	if !p {
		return s
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", colour, s)
}

func stateColour(s events.State) int {
	switch s {
	case events.Open:
		return red
	case events.HalfOpen:
		return yellow
	}
	return green
}
