package strictyaml

import (
	"encoding/json"
	"regexp"
	"strconv"

	"gopkg.in/yaml.v3"
)

var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// anything decodes n into a value for encoding/json: map[string]any, []any, string, bool, int64, nil,
// or json.Number for a number that is not an int64, so that 0.0 stays 0.0.
func (d *Decoder) anything(n *yaml.Node, at Place) (value any, ok bool) {
	switch n.Kind {
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		ok = true
		for i := 0; i < len(n.Content); i += 2 {
			entry, entryOK := d.anything(n.Content[i+1], at.Key(n.Content[i]))
			m[n.Content[i].Value], ok = entry, ok && entryOK
		}
		return m, ok
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		ok = true
		for i, item := range n.Content {
			entry, entryOK := d.anything(item, at.Item(i, item))
			list[i], ok = entry, ok && entryOK
		}
		return list, ok
	case yaml.ScalarNode:
		return d.anyScalar(n, at)
	}
	return nil, false
}

func (d *Decoder) anyScalar(n *yaml.Node, at Place) (value any, ok bool) {
	switch n.Tag {
	case "!!null":
		return nil, true
	case "!!bool":
		return n.Value == "true" || n.Value == "True" || n.Value == "TRUE", true
	case "!!int", "!!float":
		if !jsonNumber.MatchString(n.Value) {
			d.Faults.Add(at, "must be a number in JSON syntax, or text in quotes, got %s", Show(n))
			return nil, false
		}
		if i, err := strconv.ParseInt(n.Value, 10, 64); err == nil {
			return i, true
		}
		return json.Number(n.Value), true
	}
	return n.Value, true
}
