package strictyaml

import (
	"strconv"
	"strings"

	"cbproxy/internal/sanitize"

	"gopkg.in/yaml.v3"
)

const (
	MaxValueRunes = 80 // runes of a value in a fault
	MaxNameRunes  = 64 // runes of a key in a path
	longestPath   = 300
)

// show returns a value for a fault: as written, on one line, not too long, without credentials.
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

// key returns the place of a mapping's entry.
func (p Place) Key(k *yaml.Node) Place {
	name := sanitize.TruncateRunes(sanitize.Redact(k.Value), MaxNameRunes)
	if !printable(name) {
		name = strconv.Quote(name)
	}
	return Place{Join(p.Path, name), k.Line, k.Column}
}

// item returns the place of a list's item.
func (p Place) Item(i int, n *yaml.Node) Place {
	return Place{p.Path + "[" + strconv.Itoa(i) + "]", n.Line, n.Column}
}

func Join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func printable(s string) bool {
	return s != "" && s == strings.TrimSpace(s) && !strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) })
}
