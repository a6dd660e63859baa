package simulate

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/sanitize"
)

// TextOptions are options of WriteText.
type TextOptions struct {
	// Config and Against are the names of the configurations.
	Config, Against string
	// Timeline is the width in columns of a timeline for each result; 0: none.
	Timeline int
}

// WriteText writes the report as a table for each service. Names are safe for a terminal.
func (r *Report) WriteText(w io.Writer, o TextOptions) error {
	for i, name := range slices.Sorted(maps.Keys(r.Services)) {
		if i > 0 {
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
		}
		if err := r.Services[name].writeText(w, sanitize.Printable(name), o); err != nil {
			return err
		}
	}
	return nil
}

// formatTime returns a time in UTC, to the second.
func formatTime(t time.Time) string { return t.UTC().Format(time.DateTime) }

// openFor returns for how long the breaker was open, to 100 ms.
func (r *Result) openFor() time.Duration {
	return time.Duration(r.OpenSeconds * float64(time.Second)).Round(100 * time.Millisecond)
}

// Columns are the names of the columns of Row, with tabs between them.
const Columns = "OPENINGS\tOPEN FOR\tREFUSED\tOF THEM GOOD\tFAILURES PASSED\tFIRST OPENING"

// Row returns the result as the cells of a table, with tabs between them.
func (r *Result) Row() string {
	first := "-"
	if r.FirstOpening != nil {
		first = formatTime(*r.FirstOpening)
	}
	return fmt.Sprintf("%d\t%v\t%d\t%d\t%d\t%s", r.Openings, r.openFor(), r.Refused, r.RefusedGood, r.FailuresPassed, first)
}

func (s *ServiceReport) writeText(w io.Writer, name string, o TextOptions) error {
	if _, err := fmt.Fprintf(w, "%s: %d calls, %d failed, from %s to %s UTC\n", name, s.Calls, s.Failures,
		formatTime(s.first), formatTime(s.last)); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\t%s\n", Columns)
	fmt.Fprintf(t, "%s\t%s\n", o.Config, s.Config.Row())
	if s.Against != nil {
		fmt.Fprintf(t, "%s\t%s\n", o.Against, s.Against.Row())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if o.Timeline > 0 {
		width := max(len(o.Config), len(o.Against))
		for _, line := range []struct {
			name   string
			result *Result
		}{{o.Config, s.Config}, {o.Against, s.Against}} {
			if line.result == nil {
				continue
			}
			if _, err := fmt.Fprintf(w, "%-*s  %s\n", width, line.name, s.timeline(line.result, o.Timeline)); err != nil {
				return err
			}
		}
	}
	if s.Unknown > 0 {
		_, err := fmt.Fprintf(w, "Calls that were not made then, and would be: %d. How they would have ended is unknown.\n", s.Unknown)
		return err
	}
	return nil
}

// Symbols of a timeline, by what the breaker did in a part of it.
const (
	timelineClosed   = "·"
	timelineHalfOpen = "▒"
	timelineOpen     = "█"
)

// TimelineLegend explains the symbols of a timeline.
const TimelineLegend = timelineClosed + " closed  " + timelineHalfOpen + " half-open  " + timelineOpen + " open"

// timeline returns a line with a symbol for each part of the time of the record. A part in which the breaker was open is shown as open,
// however short that was.
func (s *ServiceReport) timeline(r *Result, width int) string {
	symbols := make([]string, width)
	for i := range symbols {
		symbols[i] = timelineClosed
	}
	total := max(s.last.Sub(s.first), 1)
	place := func(at time.Time) int {
		return int(min(max(float64(at.Sub(s.first))/float64(total), 0), 1) * float64(width-1))
	}
	for i, t := range r.Transitions {
		end := s.last
		if i+1 < len(r.Transitions) {
			end = r.Transitions[i+1].Time
		}
		symbol := ""
		switch t.To {
		case events.Open:
			symbol = timelineOpen
		case events.HalfOpen:
			symbol = timelineHalfOpen
		default:
			continue
		}
		for at := place(t.Time); at <= place(end); at++ {
			if symbols[at] != timelineOpen {
				symbols[at] = symbol
			}
		}
	}
	return strings.Join(symbols, "")
}
