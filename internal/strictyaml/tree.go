package strictyaml

import (
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Lookup returns the value of the key name in the mapping n, and the key's node; nil if there is none.
func Lookup(n *yaml.Node, name string) (value, key *yaml.Node) {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1], n.Content[i]
		}
	}
	return nil, nil
}

// Locate returns the place of path below n, whose own place is at. If there is no such key, the position
// is that of the nearest enclosing key; the path is always complete. A key may contain dots, such as
// the name of a header field. [2] is the third item of a list.
func Locate(n *yaml.Node, at Place, path string) Place {
	full := Join(at.Path, path)
	for path != "" {
		value, key, rest := step(n, path)
		if value == nil {
			break
		}
		n, path = value, rest
		at.Line, at.Column = key.Line, key.Column
	}
	at.Path = full
	return at
}

// step returns the entry of n whose key is the longest prefix of path, and the rest of path.
func step(n *yaml.Node, path string) (value, key *yaml.Node, rest string) {
	if n != nil && n.Kind == yaml.SequenceNode {
		return item(n, path)
	}
	for head := path; head != ""; {
		if value, key = Lookup(n, head); value != nil {
			return value, key, strings.TrimPrefix(path[len(head):], ".")
		}
		i := strings.LastIndexAny(head, ".[")
		if i < 0 {
			break
		}
		head = head[:i]
	}
	return nil, nil, ""
}

// item returns the item of the list n that path begins with. The item is its own key.
func item(n *yaml.Node, path string) (value, key *yaml.Node, rest string) {
	index, rest, found := strings.Cut(strings.TrimPrefix(path, "["), "]")
	i, err := strconv.Atoi(index)
	if !found || err != nil || i < 0 || i >= len(n.Content) {
		return nil, nil, ""
	}
	return n.Content[i], n.Content[i], strings.TrimPrefix(rest, ".")
}

// complete reports whether Flatten has reported no fault in n or below it.
func complete(n *yaml.Node) bool {
	return n.Kind != 0 && !slices.ContainsFunc(n.Content, func(c *yaml.Node) bool { return !complete(c) })
}
