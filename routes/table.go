package routes

import (
	"net/url"
	"strings"
)

// Table finds the value of the longest prefix that a path begins with. Build it with Add,
// then any number of goroutines may call Match. What a Match costs depends on the path and
// the prefix found and not on the number of prefixes.
type Table[T any] struct{ root branch[T] }

// branch is where the paths part that have the same decoded segments so far.
type branch[T any] struct {
	children map[string]*branch[T]
	value    T
	set      bool
}

// NewTable returns an empty table.
func NewTable[T any]() *Table[T] { return &Table[T]{} }

// Add sets the value of a prefix, which is one of a loaded Config. Prefixes that differ only
// in their percent-encoding are the same; the value added last counts.
func (t *Table[T]) Add(prefix string, value T) {
	b := &t.root
	for rest := strings.TrimSuffix(prefix, "/"); rest != ""; {
		var segment string
		segment, rest = cutSegment(rest)
		segment, _ = decodeSegment(segment)
		if b.children == nil {
			b.children = map[string]*branch[T]{}
		}
		if b.children[segment] == nil {
			b.children[segment] = &branch[T]{}
		}
		b = b.children[segment]
	}
	b.value, b.set = value, true
}

// Match returns the value of the longest prefix of rawPath, a path as it came with its
// percent-encoding, and how many bytes of rawPath the prefix covers: the rest is empty or
// begins with a slash. Segments are compared whole and after decoding, so that an encoded slash parts none.
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

// cutSegment parts a path, which begins with a slash, after its first segment.
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
