package strictyaml

import (
	"slices"

	"cbproxy/internal/sanitize"

	"gopkg.in/yaml.v3"
)

const (
	maxNodes    = 100_000 // nodes of a tree with its aliases resolved
	maxDepth    = 64      // mappings and lists within each other
	maxExpanded = 4 << 20 // bytes that ${} may add to a tree
)

// tree is a document without aliases, merges, tags and ${}: nothing but mappings, lists
// and scalars. A node of kind 0 stands for a value whose fault is already reported.
type Tree struct {
	Root *yaml.Node
	// scalars that held ${}: their text may be a number or a boolean even where it is quoted.
	Expanded map[*yaml.Node]bool
}

// flattener makes a tree. It counts what it visits: a few lines of aliases can stand for billions of nodes.
type flattener struct {
	environ  map[string]string
	faults   *Collector
	tree     Tree
	nodes    int
	expanded int
	over     bool // a limit was exceeded; nothing more is looked at
}

// flatten returns the tree below root. ok is false when a limit cut it short.
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

// admit counts a node against the limits.
func (f *flattener) admit(at Place, depth int) bool {
	f.nodes++
	switch {
	case f.over:
	case depth > maxDepth:
		f.over = true
		f.faults.Add(at, "must be nested at most %d deep", maxDepth)
	case f.nodes > maxNodes:
		f.over = true
		f.faults.Add(at, "must be simpler: with aliases resolved it has more than %d values", maxNodes)
	}
	return !f.over
}

// mapping copies the entries of n to out. A key of its own wins over a merged one, and an
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

// merge adds to out the entries of the mapping, or mappings, that stand at a << key, save
// those whose keys were seen before.
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

// scalar expands ${} in out. A plain scalar becomes the number or boolean it then reads as, never null.
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
		f.faults.Add(at, "must be smaller: ${} adds more than %d bytes up to here", maxExpanded)
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
