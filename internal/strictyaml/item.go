package strictyaml

import (
	"errors"
	"fmt"
	"strconv"

	"gopkg.in/yaml.v3"
)

// itemError is a fault in a value, or in an item of a list, found by its type's UnmarshalYAML.
type itemError struct {
	path         string // of the item relative to the list, such as [2]
	line, column int
	message      string
}

func (e *itemError) Error() string { return e.message }

// Position returns the line and the column of the item, 0 for those of the whole value.
func (e *itemError) Position() (line, column int) { return e.line, e.column }

// EachScalar calls f with the text of n, or with that of each item if n is a list. wantItem states what
// a value must be. f returns what a text must be, "" if it is valid. The errors are joined.
func EachScalar(n *yaml.Node, wantItem string, f func(text string) (want string)) error {
	var faults []error
	add := func(item *yaml.Node, index, want string) {
		e := &itemError{path: index, message: want + ", got " + Show(item)}
		if index != "" {
			e.line, e.column = item.Line, item.Column
		}
		faults = append(faults, e)
	}
	visit := func(item *yaml.Node, index string) {
		if item.Kind != yaml.ScalarNode || item.Tag == "!!null" || item.Tag == "!!bool" {
			add(item, index, wantItem)
		} else if want := f(item.Value); want != "" {
			add(item, index, want)
		}
	}
	if n.Kind != yaml.SequenceNode {
		visit(n, "")
	}
	for i, item := range n.Content {
		if n.Kind == yaml.SequenceNode {
			visit(item, "["+strconv.Itoa(i)+"]")
		}
	}
	return errors.Join(faults...)
}

// Errorf returns an error of a whole value, for UnmarshalYAML.
func Errorf(format string, args ...any) error {
	return &itemError{message: fmt.Sprintf(format, args...)}
}
