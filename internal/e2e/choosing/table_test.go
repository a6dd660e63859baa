package choosing

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// summary returns a table with the number of calls for each configuration and kind of outcome.
func (s *scenario) summary(runs map[string]*run) string {
	var b strings.Builder
	b.WriteString("| settings")
	for _, k := range kinds {
		b.WriteString(" | " + k.name)
	}
	wasted := slices.ContainsFunc(s.configs, func(name string) bool { return runs[name].wasted > 0 })
	if wasted {
		b.WriteString(" | worked on in vain")
	}
	b.WriteString(" |\n" + strings.Repeat("| --- ", len(kinds)+1))
	if wasted {
		b.WriteString("| --- ")
	}
	b.WriteString("|\n")
	for _, name := range s.configs {
		fmt.Fprintf(&b, "| `%s`", name)
		for _, k := range kinds {
			n := 0
			for _, row := range runs[name].rows {
				n += row.count(k.includes)
			}
			fmt.Fprintf(&b, " | %d", n)
		}
		if wasted {
			fmt.Fprintf(&b, " | %d", runs[name].wasted)
		}
		b.WriteString(" |\n")
	}
	return b.String()
}

// table returns a table with a row for each interval, and the outcomes of each configuration.
func (s *scenario) table(runs map[string]*run) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| time | calls | `%s` |\n| --- | ---%s |\n", strings.Join(s.configs, "` | `"), strings.Repeat(" | ---", len(s.configs)))
	first := runs[s.configs[0]].rows
	unit, unitName := s.unit()
	for i := range first {
		from := time.Duration(i) * s.row
		fmt.Fprintf(&b, "| %d–%d %s | %d", from/unit, (from+s.row)/unit, unitName, first[i].calls)
		for _, name := range s.configs {
			row := runs[name].rows[i]
			fmt.Fprintf(&b, " | %s", counts(row.outcomes))
			if row.state != "closed" {
				b.WriteString("; " + row.state)
			}
		}
		b.WriteString(" |\n")
	}
	return b.String()
}

// unit returns the unit of time in which rows are labelled, and its name.
func (s *scenario) unit() (unit time.Duration, name string) {
	if s.row%time.Minute == 0 {
		return time.Minute, "min"
	}
	return time.Second, "s"
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
