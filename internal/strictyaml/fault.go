package strictyaml

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"cbproxy/internal/sanitize"
)

// Fault is one error in a document, with its position.
type Fault struct {
	// File is the name of the document's file as it was given.
	File string
	// Line and Column count from 1. Line is 0 if the fault is in an environment variable.
	Line, Column int
	// Path names the key, such as routes.rag_service.timeout, or the environment variable.
	Path string
	// Message states what is allowed and what was found.
	Message string
}

// String returns the fault on one line, such as
// config.yaml:12:5: routes.rag_service.timeout: must be positive, got -1s.
func (f Fault) String() string {
	if f.Line == 0 {
		return fmt.Sprintf("environment: %s: %s", f.Path, f.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s: %s", f.File, f.Line, f.Column, f.Path, f.Message)
}

// Faults are all errors in a document, in the order of the file after those of the environment. A
// Faults that is returned as an error is not empty.
type Faults []Fault

// Error returns one line for each fault.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.String()
	}
	return strings.Join(lines, "\n")
}

// Place is the path and the position of a value: those of its key, or of the item in a list.
type Place struct {
	Path         string
	Line, Column int
}

// maxFaults bounds the number of faults that are kept.
const maxFaults = 1000

// Collector collects faults. A nil Collector discards them: values that are decoded a second time
// have been reported before. Not safe for concurrent use.
type Collector struct {
	// File is the File of the faults.
	File string
	// Faults are the faults in the order in which they were added.
	Faults Faults
}

// Full reports whether Add would discard the next fault.
func (c *Collector) Full() bool { return c == nil || len(c.Faults) > maxFaults }

// Add adds a fault at a place. After maxFaults faults it adds one that states that the rest is omitted.
func (c *Collector) Add(at Place, format string, args ...any) {
	if c.Full() {
		return
	}
	message := fmt.Sprintf(format, args...)
	if len(c.Faults) == maxFaults {
		at.Path, message = "", fmt.Sprintf("has more than %d faults, the rest is omitted", maxFaults)
	}
	if at.Path == "" {
		at.Path = "file"
	}
	c.Faults = append(c.Faults, Fault{c.File, at.Line, at.Column, sanitize.TruncateRunes(at.Path, maxPathRunes), oneLine(message)})
}

// Has reports whether there is a fault at path or below it.
func (c *Collector) Has(path string) bool {
	return slices.ContainsFunc(c.Faults, func(f Fault) bool {
		rest, below := strings.CutPrefix(f.Path, path)
		return below && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// Err returns the faults in order as a Faults, nil if there are none.
func (c *Collector) Err() error {
	if len(c.Faults) == 0 {
		return nil
	}
	slices.SortStableFunc(c.Faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Path, b.Path))
	})
	return c.Faults
}

// oneLine joins the lines of a message, which may come from a library.
func oneLine(s string) string {
	if !strings.ContainsAny(s, "\n\r") {
		return s
	}
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
