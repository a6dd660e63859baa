package expression

import (
	"strings"
	"unicode/utf8"

	"cbproxy/internal/strictyaml"

	"gopkg.in/yaml.v3"
)

// OpenWhenText is the text of an OpenWhen in a configuration; "" is none. It is compiled to be checked when it is decoded.
type OpenWhenText string

// UnmarshalYAML implements yaml.Unmarshaler. Its error has the position in the file.
func (t *OpenWhenText) UnmarshalYAML(n *yaml.Node) error {
	return decode(n, (*string)(t), func(text string) error {
		_, err := CompileOpenWhen(text)
		return err
	})
}

// FailureWhenText is the text of a FailureWhen in a configuration; "" is none. It is compiled to be checked when it is decoded.
type FailureWhenText string

// UnmarshalYAML implements yaml.Unmarshaler. Its error has the position in the file.
func (t *FailureWhenText) UnmarshalYAML(n *yaml.Node) error {
	return decode(n, (*string)(t), func(text string) error {
		_, err := CompileFailureWhen(text)
		return err
	})
}

// positionedError is an error with its position in a file.
type positionedError struct {
	error
	line, column int
}

// Position returns the line and the column in the file.
func (e *positionedError) Position() (line, column int) { return e.line, e.column }

// decode sets text to the value of n if that is valid.
func decode(n *yaml.Node, text *string, check func(text string) error) error {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return strictyaml.Errorf("must be an expression in quotes, got %s", strictyaml.Show(n))
	}
	if n.Value != "" {
		if err := check(n.Value); err != nil {
			e := &positionedError{error: err}
			e.line, e.column = position(n, err.(*Error))
			return e
		}
	}
	*text = n.Value
	return nil
}

// position returns the position in the file of an error in n. Of a block scalar, whose indentation is not known, it is the first
// column of the line. It is not exact if a plain or quoted scalar is folded, contains ${}, or has escapes other than \" and \\.
func position(n *yaml.Node, e *Error) (line, column int) {
	if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return n.Line + e.Line, 1
	}
	before := n.Value
	for i := range before {
		if utf8.RuneCountInString(before[:i]) == e.Column-1 {
			before = before[:i]
			break
		}
	}
	column = n.Column + e.Column - 1
	switch {
	case e.Line > 1 || strings.Contains(before, "\n"):
		return n.Line, n.Column
	case n.Style&yaml.SingleQuotedStyle != 0:
		return n.Line, column + 1 + strings.Count(before, "'") // each is written twice
	case n.Style&yaml.DoubleQuotedStyle != 0:
		return n.Line, column + 1 + strings.Count(before, `"`) + strings.Count(before, `\`)
	}
	return n.Line, column
}
