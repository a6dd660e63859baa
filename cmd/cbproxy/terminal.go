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
	"unicode/utf8"

	"golang.org/x/term"

	"cbproxy/internal/events"
	"cbproxy/internal/sanitize"
)

// clean returns a text of the proxy's, or of those it talks to, without what a terminal might obey.
// Lines become one.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// short is clean, with at most n characters.
func short(s string, n int) string {
	s = clean(s)
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return sanitize.TruncateRunes(s, n-1)
}

// isTerminal reports whether w is a terminal that can do more than write on.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	kind := os.Getenv("TERM")
	return ok && kind != "" && kind != "dumb" && term.IsTerminal(int(f.Fd()))
}

// painter colours words, or leaves them as they are.
type painter bool

// newPainter returns one that colours if w is a terminal whose user wants colours.
func newPainter(w io.Writer) painter {
	return painter(isTerminal(w) && os.Getenv("NO_COLOR") == "")
}

// The colours have codes of the same length, so that a table's column stays one.
const (
	uncoloured = 39
	red        = 31
	green      = 32
	yellow     = 33
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

// age returns a duration as one reads it, with two units at most; never a negative one.
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

// printJSON prints an answer of the API's, indented, and with what JSON may hold as it is and no eye
// sees, such as control characters, written as escapes.
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
