package strictyaml

import (
	"strconv"
	"strings"

	"cbproxy/internal/sanitize"

	"gopkg.in/yaml.v3"
)

const (
	MaxValueRunes = 80 // of a value in a fault
	MaxNameRunes  = 64 // of a key in a path
	maxPathRunes  = 300
)

// Show returns a value for the message of a fault: on one line, truncated, without credentials.
func Show(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	if n.Tag == "!!null" {
		return "null"
	}
	text := sanitize.TruncateRunes(sanitize.Redact(n.Value), MaxValueRunes)
	if n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 || !printable(text) {
		return strconv.Quote(text)
	}
	return text
}

// Key returns the place of the entry with key k in the mapping at p.
func (p Place) Key(k *yaml.Node) Place {
	name := sanitize.TruncateRunes(sanitize.Redact(k.Value), MaxNameRunes)
	if !printable(name) {
		name = strconv.Quote(name)
	}
	return Place{Join(p.Path, name), k.Line, k.Column}
}

// Item returns the place of item i in the list at p.
func (p Place) Item(i int, n *yaml.Node) Place {
	return Place{p.Path + "[" + strconv.Itoa(i) + "]", n.Line, n.Column}
}

// Join returns the path of a key below path.
func Join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func printable(s string) bool {
	return s != "" && s == strings.TrimSpace(s) && !strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) })
}
