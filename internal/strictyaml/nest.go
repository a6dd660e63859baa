package strictyaml

import (
	"strings"

	"gopkg.in/yaml.v3"
)

// Nest returns the mapping root, which Flatten has returned, with nested mappings in place of keys that are paths, such as a.b. It adds a
// fault for a value that is set twice, and for an empty mapping.
func Nest(root *yaml.Node, faults *Collector) *yaml.Node {
	nested := &yaml.Node{Kind: yaml.MappingNode, Line: root.Line, Column: root.Column}
	nest(nested, root, "", faults)
	return nested
}

// nest adds the entries of the mapping n, whose path is at, to the mapping to.
func nest(to, n *yaml.Node, at string, faults *Collector) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		here := Place{Join(at, key.Value), key.Line, key.Column}
		isMapping := value.Kind == yaml.MappingNode
		folder, name := to, key.Value
		for {
			first, rest, more := strings.Cut(name, ".")
			if !more && !isMapping {
				break
			}
			if folder = mappingAt(folder, first, key); folder == nil || !more {
				break
			}
			name = rest
		}
		switch {
		case folder == nil:
			faults.Add(here, "is set twice")
		case isMapping && len(value.Content) == 0:
			faults.Add(here, "must have at least one key, got {}")
		case isMapping:
			nest(folder, value, here.Path, faults)
		default:
			if existing, _ := Lookup(folder, name); existing != nil {
				faults.Add(here, "is set twice")
				continue
			}
			folder.Content = append(folder.Content, KeyNode(name, key), value)
		}
	}
}

// mappingAt returns the mapping with a name in the mapping n, which it adds if there is none; nil if the name has another value.
func mappingAt(n *yaml.Node, name string, key *yaml.Node) *yaml.Node {
	existing, _ := Lookup(n, name)
	switch {
	case existing == nil:
		added := &yaml.Node{Kind: yaml.MappingNode, Line: key.Line, Column: key.Column}
		n.Content = append(n.Content, KeyNode(name, key), added)
		return added
	case existing.Kind != yaml.MappingNode:
		return nil
	}
	return existing
}

// KeyNode returns a key at the position of a node.
func KeyNode(name string, at *yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name, Line: at.Line, Column: at.Column}
}

// Leaves returns the values below the mapping n that are no mappings, by their paths.
func Leaves(n *yaml.Node) map[string]*yaml.Node {
	leaves := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i].Value, n.Content[i+1]
		if value.Kind != yaml.MappingNode {
			leaves[name] = value
			continue
		}
		for path, leaf := range Leaves(value) {
			leaves[Join(name, path)] = leaf
		}
	}
	return leaves
}
