package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

	"cbproxy/internal/events"
	"cbproxy/internal/sanitize"

	"github.com/charmbracelet/x/ansi"
	"golang.org/x/term"
)

// screen prints successive states of the status: in place on a terminal that supports it, otherwise one below the other.
type screen struct {
	w        io.Writer
	terminal *os.File // nil unless w is a terminal
	paint    painter
	drawn    bool // the first status has been drawn
}

func newScreen(w io.Writer) *screen {
	s := &screen{w: w, paint: newPainter(w)}
	if isTerminal(w) {
		s.terminal = w.(*os.File)
	}
	return s
}

// show draws the status, below a line with the connection error if there is one.
func (s *screen) show(p *statusData, connErr error) error {
	var b bytes.Buffer
	if connErr != nil {
		fmt.Fprintf(&b, "%s %s\n", s.paint.paint(red, "CONNECTION LOST, the data below is stale:"), clean(connErr.Error()))
	}
	if err := p.draw(&b, s.paint, p.now()); err != nil {
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

// size returns the size of the terminal window.
func (s *screen) size() (columns, rows int) {
	columns, rows, err := term.GetSize(int(s.terminal.Fd()))
	if err != nil || columns < 1 || rows < 1 { // a serial terminal has no size
		return 80, 24
	}
	return columns, rows
}

// frame returns the bytes that draw lines from the top of a window with the given rows, over the previous frame. The first
// frame scrolls the window's previous content up, so it stays in the scrollback. There must be fewer lines than rows.
func (s *screen) frame(lines []string, rows int) string {
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

// clean is sanitize.Printable.
func clean(s string) string { return sanitize.Printable(s) }

// short is sanitize.Short.
func short(s string, n int) string { return sanitize.Short(s, n) }

// isTerminal reports whether w is a terminal that supports escape sequences.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	kind := os.Getenv("TERM")
	return ok && kind != "" && kind != "dumb" && term.IsTerminal(int(f.Fd()))
}

// painter adds colours to text if it is true.
type painter bool

// newPainter returns a painter that adds colours if w is a terminal and NO_COLOR is not set.
func newPainter(w io.Writer) painter {
	return painter(isTerminal(w) && os.Getenv("NO_COLOR") == "")
}

// Colour codes. All have the same length, so that the cells of a table's column stay aligned.
const (
	noColour = 39
	red      = 31
	green    = 32
	yellow   = 33
)

func (p painter) paint(colour int, s string) string {
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

// age formats a duration with at most two units. A negative duration becomes 0s.
func age(d time.Duration) string {
	s := int(max(d, 0).Round(time.Second).Seconds())
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	}
	return fmt.Sprintf("%dd%02dh", s/86400, s/3600%24)
}

// printJSON prints a response of the API, indented, with unprintable characters escaped.
func printJSON(w io.Writer, content []byte) error {
	var indented, safe bytes.Buffer
	if err := json.Indent(&indented, bytes.TrimSpace(content), "", "  "); err != nil {
		return failure(err)
	}
	for _, r := range indented.String() {
		switch {
		case r < 0x7f || unicode.IsPrint(r):
			safe.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&safe, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&safe, `\u%04x`, r)
		}
	}
	safe.WriteByte('\n')
	_, err := w.Write(safe.Bytes())
	return err
}
