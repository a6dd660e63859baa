package fallbacks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"

	"gopkg.in/yaml.v3"
)

// JSON is an option whose value is any YAML value, converted to JSON. The order of keys is kept, and
// so is the spelling of numbers that are valid JSON: 0.0 stays 0.0.
type JSON []byte

// positionError is an error with a position in a YAML document.
type positionError struct {
	node    *yaml.Node
	message string
}

func (e *positionError) Error() string                { return e.message }
func (e *positionError) Position() (line, column int) { return e.node.Line, e.node.Column }

func at(n *yaml.Node, format string, args ...any) error {
	return &positionError{n, fmt.Sprintf(format, args...)}
}

// UnmarshalYAML converts n, which must not contain aliases. Its errors have a method
// Position() (line, column int).
func (j *JSON) UnmarshalYAML(n *yaml.Node) error {
	var b bytes.Buffer
	if err := writeJSON(&b, n); err != nil {
		return err
	}
	*j = b.Bytes()
	return nil
}

// MarshalJSON returns j, or null if j is empty.
func (j JSON) MarshalJSON() ([]byte, error) {
	if len(j) == 0 {
		return []byte("null"), nil
	}
	return j, nil
}

func writeJSON(b *bytes.Buffer, n *yaml.Node) error {
	switch n.Kind {
	case yaml.MappingNode:
		return writeObject(b, n)
	case yaml.SequenceNode:
		return writeArray(b, n)
	case yaml.ScalarNode:
		return writeScalar(b, n)
	default:
		return at(n, "must be a mapping, a list or a scalar")
	}
}

func writeObject(b *bytes.Buffer, n *yaml.Node) error {
	b.WriteByte('{')
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode {
			return at(key, "must be a scalar: keys of JSON objects are strings")
		}
		if i > 0 {
			b.WriteByte(',')
		}
		writeString(b, key.Value)
		b.WriteByte(':')
		if err := writeJSON(b, n.Content[i+1]); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return nil
}

func writeArray(b *bytes.Buffer, n *yaml.Node) error {
	b.WriteByte('[')
	for i, item := range n.Content {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := writeJSON(b, item); err != nil {
			return err
		}
	}
	b.WriteByte(']')
	return nil
}

func writeScalar(b *bytes.Buffer, n *yaml.Node) error {
	switch n.ShortTag() {
	case "!!null":
		b.WriteString("null")
	case "!!bool":
		var v bool
		if err := n.Decode(&v); err != nil {
			return at(n, "must be true or false, got %s", n.Value)
		}
		b.WriteString(strconv.FormatBool(v))
	case "!!int", "!!float":
		return writeNumber(b, n)
	default: // strings, and types that JSON does not have: dates, binary
		writeString(b, n.Value)
	}
	return nil
}

var (
	jsonNumber   = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)
	leadingZeros = regexp.MustCompile(`^[-+]?0[0-9_]+$`)
)

func writeNumber(b *bytes.Buffer, n *yaml.Node) error {
	switch {
	case jsonNumber.MatchString(n.Value):
		b.WriteString(n.Value)
		return nil
	case leadingZeros.MatchString(n.Value):
		return at(n, "must be a number without leading zeros or a quoted string, got %s", n.Value)
	}
	var i int64
	if n.ShortTag() == "!!int" && n.Decode(&i) == nil {
		b.WriteString(strconv.FormatInt(i, 10))
		return nil
	}
	var f float64
	if err := n.Decode(&f); err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return at(n, "must be a number that JSON can hold or a quoted string, got %s", n.Value)
	}
	b.WriteString(strconv.FormatFloat(f, 'g', -1, 64))
	return nil
}

func writeString(b *bytes.Buffer, s string) {
	_ = EncodeJSON(b, s) // never fails for a string
}

// EncodeJSON appends v to b as compact JSON, without HTML escaping. It appends nothing if it fails.
func EncodeJSON(b *bytes.Buffer, v any) error {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	b.Truncate(b.Len() - 1) // remove the newline
	return nil
}
