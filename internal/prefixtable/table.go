// Package prefixtable finds the longest prefix of a request's path.
package prefixtable

import (
	"net/url"
	"strings"
)

// Table finds the value of the longest prefix of a path. Match is safe for concurrent use after the
// last Add. Its cost depends on the path and not on the number of prefixes.
type Table[T any] struct{ root node[T] }

// node is a node of the trie of decoded path segments.
type node[T any] struct {
	children map[string]*node[T]
	value    T
	set      bool
}

// New returns an empty table.
func New[T any]() *Table[T] { return &Table[T]{} }

// Add sets the value of a prefix, a valid path whose segments are compared after decoding. Prefixes that differ only in percent-encoding are
// equal: the last value replaces the others.
func (t *Table[T]) Add(prefix string, value T) {
	b := &t.root
	for rest := strings.TrimSuffix(prefix, "/"); rest != ""; {
		var segment string
		segment, rest = cutSegment(rest)
		segment, _ = decodeSegment(segment)
		if b.children == nil {
			b.children = map[string]*node[T]{}
		}
		if b.children[segment] == nil {
			b.children[segment] = &node[T]{}
		}
		b = b.children[segment]
	}
	b.value, b.set = value, true
}

// Match returns the value of the longest prefix of rawPath, a path in its original percent-encoding,
// and the number of bytes of rawPath that the prefix covers. The rest is empty or begins with a slash.
// Complete segments are compared after decoding, so an encoded slash is no separator.
func (t *Table[T]) Match(rawPath string) (value T, covered int, ok bool) {
	if rawPath == "" || rawPath[0] != '/' {
		return value, 0, false
	}
	b := &t.root
	value, ok = b.value, b.set
	for rest := rawPath; rest != "" && b.children != nil; {
		var segment string
		segment, rest = cutSegment(rest)
		segment, valid := decodeSegment(segment)
		if b = b.children[segment]; b == nil || !valid {
			break
		}
		if b.set {
			value, covered, ok = b.value, len(rawPath)-len(rest), true
		}
	}
	return value, covered, ok
}

// cutSegment splits a path that begins with a slash after its first segment.
func cutSegment(path string) (segment, rest string) {
	if end := strings.IndexByte(path[1:], '/'); end >= 0 {
		return path[1 : 1+end], path[1+end:]
	}
	return path[1:], ""
}

func decodeSegment(segment string) (decoded string, valid bool) {
	if strings.IndexByte(segment, '%') < 0 {
		return segment, true
	}
	decoded, err := url.PathUnescape(segment)
	if err != nil {
		return segment, false
	}
	return decoded, true
}
