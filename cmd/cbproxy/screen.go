package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
	"golang.org/x/text/width"
)

// screen shows one picture after another: in the same place on a terminal that can do that, else below
// each other.
type screen struct {
	w        io.Writer
	terminal *os.File // nil: below each other
	paint    painter
	begun    bool
}

func newScreen(w io.Writer) *screen {
	s := &screen{w: w, paint: newPainter(w)}
	if isTerminal(w) {
		s.terminal = w.(*os.File)
	}
	return s
}

// show writes a picture, below what is wrong if something is.
func (s *screen) show(p *picture, trouble error) error {
	var b bytes.Buffer
	if trouble != nil {
		fmt.Fprintf(&b, "%s %s\n", s.paint.paint(red, "CONNECTION LOST, what follows is old:"), clean(trouble.Error()))
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

// size is the window's.
func (s *screen) size() (columns, rows int) {
	columns, rows, err := term.GetSize(int(s.terminal.Fd()))
	if err != nil || columns < 1 || rows < 1 { // a serial line's
		return 80, 24
	}
	return columns, rows
}

// frame is what puts lines into a window that has a row more than they are, in the place of the ones before.
// What was in the window at first goes where one can scroll back to.
func (s *screen) frame(lines []string, rows int) string {
	var b strings.Builder
	if !s.begun {
		s.begun = true
		b.WriteString(strings.Repeat("\n", rows))
	}
	b.WriteString("\x1b[H") // home
	for _, line := range lines {
		b.WriteString("\x1b[2K" + line + "\n") // cleared first, as a full line leaves no place behind it
	}
	b.WriteString("\x1b[J") // what is below
	return b.String()
}

// fit returns what of a text goes into so many columns and rows. If there are too many lines, the last one
// tells how many are missing.
func fit(text string, columns, rows int) []string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) > rows {
		shown := max(rows-1, 0)
		lines = append(lines[:shown:shown], fmt.Sprintf("… and %d more lines", len(lines)-shown))[:max(rows, 0)]
	}
	for i := range lines {
		lines[i] = cut(lines[i], columns)
	}
	return lines
}

// cut returns a line that takes at most so many columns, with … where it is cut.
func cut(line string, columns int) string {
	column, room := 0, 0 // room is where … would go
	for i := 0; i < len(line); {
		if strings.HasPrefix(line[i:], "\x1b") { // a colour
			if end := strings.IndexByte(line[i:], 'm'); end >= 0 {
				i += end + 1
				continue
			}
		}
		r, size := utf8.DecodeRuneInString(line[i:])
		if column < columns {
			room = i
		}
		if column += columnsOf(r); column > columns {
			if strings.Contains(line[:room], "\x1b") {
				return line[:room] + "…\x1b[0m"
			}
			return line[:room] + "…"
		}
		i += size
	}
	return line
}

// columnsOf returns how many columns a character takes.
func columnsOf(r rune) int {
	if r < 0x300 {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}
