package strictyaml

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"cbproxy/internal/sanitize"
)

// Fault is one thing wrong with a configuration, and where it stands.
type Fault struct {
	// File is the configuration file as the operator named it.
	File string
	// Line and Column count from 1. Line 0 is a fault of the environment.
	Line, Column int
	// Path names the key, such as routes.rag_service.timeout, or the environment variable.
	Path string
	// Message says what is allowed and what was found.
	Message string
}

// String returns the fault on one line: config.yaml:12:5: routes.rag_service.timeout: must be positive, got -1s.
func (f Fault) String() string {
	if f.Line == 0 {
		return fmt.Sprintf("environment: %s: %s", f.Path, f.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s: %s", f.File, f.Line, f.Column, f.Path, f.Message)
}

// Faults is everything wrong with a configuration, in the order of the file, those of the
// environment first. It is never empty when it is returned as an error.
type Faults []Fault

// Error returns one line a fault.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.String()
	}
	return strings.Join(lines, "\n")
}

// place is what a fault about a value names: the position of its key, or of the item in a list.
type Place struct {
	Path         string
	Line, Column int
}

// most faults a report holds: a file of nothing but nonsense must not become a flood of lines.
const maxFaults = 1000

// collector gathers faults. A nil collector drops them, for values that are decoded a
// second time and whose faults are already known.
type Collector struct {
	File   string
	Faults Faults
}

// full tells that add would drop the next fault, so that working out its place is in vain.
func (c *Collector) Full() bool { return c == nil || len(c.Faults) > maxFaults }

func (c *Collector) Add(at Place, format string, args ...any) {
	if c.Full() {
		return
	}
	message := fmt.Sprintf(format, args...)
	if len(c.Faults) == maxFaults {
		at.Path, message = "", fmt.Sprintf("has more than %d faults, the rest is left out", maxFaults)
	}
	if at.Path == "" {
		at.Path = "file"
	}
	c.Faults = append(c.Faults, Fault{c.File, at.Line, at.Column, sanitize.TruncateRunes(at.Path, longestPath), oneLine(message)})
}

// has tells whether something at or below path was found faulty.
func (c *Collector) Has(path string) bool {
	return slices.ContainsFunc(c.Faults, func(f Fault) bool {
		rest, below := strings.CutPrefix(f.Path, path)
		return below && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// err returns the faults in order, or nil.
func (c *Collector) Err() error {
	if len(c.Faults) == 0 {
		return nil
	}
	slices.SortStableFunc(c.Faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Path, b.Path))
	})
	return c.Faults
}

// oneLine keeps the promise of one line a fault against messages that others wrote.
func oneLine(s string) string {
	if !strings.ContainsAny(s, "\n\r") {
		return s
	}
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
