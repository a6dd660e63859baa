package strictyaml

import (
	"slices"

	"cbproxy/internal/sanitize"

	"gopkg.in/yaml.v3"
)

const (
	maxNodes    = 100_000 // nodes of a tree after aliases are resolved
	maxDepth    = 64      // nesting of mappings and lists
	maxExpanded = 4 << 20 // bytes that ${} may add to a tree
)

// Tree is a document after Flatten: it has mappings, lists and scalars, but no aliases, merge keys,
// tags and ${} references. A node of kind 0 replaces a value whose fault has been reported.
type Tree struct {
	Root *yaml.Node
	// Expanded marks the scalars that contained ${}. They may be a number or a boolean even if they are quoted.
	Expanded map[*yaml.Node]bool
}

// flattener builds a Tree. It counts the nodes it visits: a few lines of aliases can expand to
// billions of nodes.
type flattener struct {
	environ  map[string]string
	faults   *Collector
	tree     Tree
	nodes    int
	expanded int
	over     bool // a limit was exceeded: the rest is skipped
}

// Flatten returns the tree below root. ok is false if a limit was exceeded and the tree is incomplete.
func Flatten(root *yaml.Node, environ map[string]string, faults *Collector) (t Tree, ok bool) {
	f := &flattener{environ: environ, faults: faults, tree: Tree{Expanded: map[*yaml.Node]bool{}}}
	f.tree.Root = f.node(root, Place{"", root.Line, root.Column}, 0)
	return f.tree, !f.over
}

func (f *flattener) node(n *yaml.Node, at Place, depth int) *yaml.Node {
	for n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	if !f.admit(at, depth) {
		return &yaml.Node{}
	}
	if n.Style&yaml.TaggedStyle != 0 {
		f.faults.Add(at, "must have no tag, got %s", sanitize.TruncateRunes(n.Tag, MaxValueRunes))
		return &yaml.Node{}
	}
	out := &yaml.Node{Kind: n.Kind, Tag: n.Tag, Style: n.Style, Value: n.Value, Line: n.Line, Column: n.Column}
	switch n.Kind {
	case yaml.ScalarNode:
		return f.scalar(out, at)
	case yaml.SequenceNode:
		for i, item := range n.Content {
			out.Content = append(out.Content, f.node(item, at.Item(i, item), depth+1))
		}
	case yaml.MappingNode:
		f.mapping(n, out, at, depth)
	}
	return out
}

// admit counts a node and reports whether the limits allow it.
func (f *flattener) admit(at Place, depth int) bool {
	f.nodes++
	switch {
	case f.over:
	case depth > maxDepth:
		f.over = true
		f.faults.Add(at, "must be nested at most %d deep", maxDepth)
	case f.nodes > maxNodes:
		f.over = true
		f.faults.Add(at, "must have at most %d values after aliases are resolved", maxNodes)
	}
	return !f.over
}

// mapping copies the entries of n to out. A key of n takes precedence over a merged one, and an
// earlier merged mapping over a later one.
func (f *flattener) mapping(n, out *yaml.Node, at Place, depth int) {
	first := map[string]*yaml.Node{}
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content) && !f.over; i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		here := at.Key(key)
		switch {
		case key.Kind != yaml.ScalarNode || key.Style&yaml.TaggedStyle != 0 || key.Tag == "!!null":
			f.faults.Add(Place{at.Path, key.Line, key.Column}, "a key must be plain text, got %s", kindOf(key))
			continue
		case first[key.Value] != nil:
			f.faults.Add(here, "duplicate key, first given at %d:%d", first[key.Value].Line, first[key.Value].Column)
			continue
		}
		first[key.Value] = key
		if key.Tag == "!!merge" {
			merges = append(merges, key, value)
			continue
		}
		out.Content = append(out.Content, copyKey(key), f.node(value, here, depth+1))
	}
	for i := 0; i < len(merges); i += 2 {
		f.merge(merges[i+1], out, first, at.Key(merges[i]), depth+1)
	}
}

// merge adds to out the entries of the mapping, or list of mappings, at a << key, except those whose
// keys are in seen.
func (f *flattener) merge(value, out *yaml.Node, seen map[string]*yaml.Node, at Place, depth int) {
	merged := f.node(value, at, depth)
	sources := []*yaml.Node{merged}
	if merged.Kind == yaml.SequenceNode {
		sources = merged.Content
	}
	for _, source := range sources {
		if source.Kind == 0 {
			continue
		}
		if source.Kind != yaml.MappingNode {
			f.faults.Add(at, "must be a mapping or a list of mappings, got %s", Show(source))
			continue
		}
		for i := 0; i < len(source.Content); i += 2 {
			if key := source.Content[i]; seen[key.Value] == nil {
				seen[key.Value] = key
				out.Content = append(out.Content, key, source.Content[i+1])
			}
		}
	}
}

// scalar expands ${} in out. A plain scalar becomes a number or a boolean if its new text is one, never null.
func (f *flattener) scalar(out *yaml.Node, at Place) *yaml.Node {
	text, changed, err := expand(out.Value, f.environ, maxExpanded)
	if err != nil {
		f.faults.Add(at, "%s", err)
		return &yaml.Node{}
	}
	if !changed {
		return out
	}
	if f.expanded += len(text); f.expanded > maxExpanded {
		f.over = true
		f.faults.Add(at, "must be smaller: all ${} references together expand to more than %d bytes", maxExpanded)
		return &yaml.Node{}
	}
	if out.Style == 0 {
		tag := (&yaml.Node{Kind: yaml.ScalarNode, Value: text}).ShortTag()
		if !slices.Contains([]string{"!!int", "!!float", "!!bool"}, tag) {
			tag = "!!str"
		}
		out.Tag = tag
	}
	out.Value = text
	f.tree.Expanded[out] = true
	return out
}

func copyKey(k *yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: k.Style, Value: k.Value, Line: k.Line, Column: k.Column}
}

func kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.AliasNode:
		return "an alias"
	case n.Style&yaml.TaggedStyle != 0:
		return "a tag"
	}
	return Show(n)
}
