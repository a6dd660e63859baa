package main

import (
	"fmt"
	"io"
	"time"

	"cbproxy/internal/statusview"
)

// progress shows on a terminal how far a long command is, in a line that is overwritten.
type progress struct {
	w     io.Writer // nil: not a terminal
	last  time.Time // when something was shown last; at first, when the command began
	shown bool
}

func newProgress(w io.Writer) *progress {
	p := &progress{last: time.Now()}
	if statusview.IsTerminal(w) {
		p.w = w
	}
	return p
}

// show shows a text, at most four times a second.
func (p *progress) show(format string, values ...any) {
	if p.w == nil || time.Since(p.last) < 250*time.Millisecond {
		return
	}
	p.last, p.shown = time.Now(), true
	_, _ = fmt.Fprintf(p.w, "\r"+format+"\x1b[K", values...)
}

// clear removes what is shown.
func (p *progress) clear() {
	if p.shown {
		p.shown = false
		_, _ = fmt.Fprint(p.w, "\r\x1b[K")
	}
}
