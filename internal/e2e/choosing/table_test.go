package choosing

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// header returns the first line of the recording.
func (s *scenario) header() string {
	return "| time | calls | `" + strings.Join(s.configs, "` | `") + "` |\n"
}

// table returns the recording of a scenario: a row for each interval, and one for all of them.
func (s *scenario) table(runs map[string]*run) string {
	var b strings.Builder
	b.WriteString(s.header() + "| --- | ---" + strings.Repeat(" | ---", len(s.configs)) + " |\n")
	first := runs[s.configs[0]].rows
	for i := range first {
		fmt.Fprintf(&b, "| %s | %d", timeRange(time.Duration(i)*s.row, s.row), first[i].calls)
		for _, name := range s.configs {
			row := runs[name].rows[i]
			fmt.Fprintf(&b, " | %s", counts(row.outcomes))
			if row.state != "closed" {
				b.WriteString("; " + row.state)
			}
		}
		b.WriteString(" |\n")
	}
	calls := 0
	for _, row := range first {
		calls += row.calls
	}
	fmt.Fprintf(&b, "| **all** | **%d**", calls)
	for _, name := range s.configs {
		all := map[string]int{}
		for _, row := range runs[name].rows {
			for outcome, n := range row.outcomes {
				all[outcome] += n
			}
		}
		fmt.Fprintf(&b, " | **%s**", counts(all))
	}
	b.WriteString(" |\n")
	var wasted strings.Builder
	total := 0
	for _, name := range s.configs {
		fmt.Fprintf(&wasted, " | %d", runs[name].wasted)
		total += runs[name].wasted
	}
	if total > 0 {
		fmt.Fprintf(&b, "| worked on in vain | %s |\n", wasted.String())
	}
	return b.String()
}

// timeRange returns the text for the time from which a row begins, and its length.
func timeRange(from, length time.Duration) string {
	unit, name := time.Second, "s"
	if length%time.Minute == 0 {
		unit, name = time.Minute, "min"
	}
	return fmt.Sprintf("%d–%d %s", from/unit, (from+length)/unit, name)
}

// counts returns the text for outcomes: the answers first, then by name.
func counts(outcomes map[string]int) string {
	var texts []string
	if n := outcomes[answered]; n > 0 {
		texts = append(texts, fmt.Sprint(n, " ", answered))
	}
	for _, name := range slices.Sorted(maps.Keys(outcomes)) {
		if name != answered {
			texts = append(texts, fmt.Sprint(outcomes[name], " ", name))
		}
	}
	return strings.Join(texts, ", ")
}
