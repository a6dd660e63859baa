package expression

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

const (
	maxBody      = 1 << 20 // bytes of the longest body that is scanned
	maxBodyDepth = 64      // of lists and objects in it
	maxPathDepth = 32      // parts of a path
)

// pathNode is a part of JSON paths. The paths of an expression form a tree, so that one scan finds all values.
type pathNode struct {
	slot     int // where the value goes; -1 if no path ends here
	children map[string]*pathNode
	items    map[int]*pathNode // the children whose name is the number of a list's item
}

func newPathNode() *pathNode { return &pathNode{slot: -1} }

// add adds a path whose value goes to slot.
func (n *pathNode) add(parts []string, slot int) {
	if len(parts) == 0 {
		n.slot = slot
		return
	}
	child := n.children[parts[0]]
	if child == nil {
		child = newPathNode()
		if n.children == nil {
			n.children, n.items = map[string]*pathNode{}, map[int]*pathNode{}
		}
		n.children[parts[0]] = child
		if i, err := strconv.Atoi(parts[0]); err == nil && strconv.Itoa(i) == parts[0] {
			n.items[i] = child
		}
	}
	child.add(parts[1:], slot)
}

// clear removes the values of n and below from values: of a key that is given twice, the last one counts.
func (n *pathNode) clear(values []any) {
	if n.slot >= 0 {
		values[n.slot] = nil
	}
	for _, child := range n.children {
		child.clear(values)
	}
}

// splitPath returns the parts of a path. A dot within a key is written as \. and a backslash as \\.
func splitPath(path string) (parts []string) {
	var part strings.Builder
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '\\' && i+1 < len(path):
			i++
			part.WriteByte(path[i])
		case c == '.':
			parts = append(parts, part.String())
			part.Reset()
		default:
			part.WriteByte(c)
		}
	}
	return append(parts, part.String())
}

// checkPath returns what a path must be, "" if it is valid.
func checkPath(path string) (want string) {
	parts := splitPath(path)
	for _, part := range parts {
		if part == "" {
			return "must be keys and numbers of items with dots between them, such as error.code or items.0.id"
		}
	}
	if len(parts) > maxPathDepth {
		return fmt.Sprintf("must have at most %d parts, got %d", maxPathDepth, len(parts))
	}
	return ""
}

// scanJSON sets values to what is at the paths of body. They stay nil if body is not a JSON document within the limits. A value that
// is too large is an error, and a number is a float64, infinite if it is out of range.
func scanJSON(body []byte, paths *pathNode, values []any) {
	if len(body) > maxBody || exceedsDepth(body, maxBodyDepth) || !json.Valid(body) {
		return
	}
	s := jsonScanner{text: body, values: values}
	s.value(paths)
}

// exceedsDepth reports whether lists and objects in a JSON document are nested more than most deep.
func exceedsDepth(text []byte, most int) bool {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			i = endOfString(text, i) - 1
		case '{', '[':
			if depth++; depth > most {
				return true
			}
		case '}', ']':
			depth--
		}
	}
	return false
}

// endOfString returns the index after the string that begins at i.
func endOfString(text []byte, i int) int {
	for i++; i < len(text) && text[i] != '"'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return min(i+1, len(text))
}

// jsonScanner is a scanner of a valid JSON document.
type jsonScanner struct {
	text   []byte
	at     int // the index of the next byte
	values []any
}

// next returns the next byte that is not white space.
func (s *jsonScanner) next() byte {
	for {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return c
		}
	}
}

// value scans a value whose place is n.
func (s *jsonScanner) value(n *pathNode) {
	c, start := s.next(), s.at
	switch {
	case c == '{' && n.children != nil:
		s.object(n)
	case c == '[' && len(n.items) > 0:
		s.list(n)
	default:
		s.skip()
	}
	if n.slot >= 0 {
		s.values[n.slot] = decodeJSON(s.text[start:s.at])
	}
}

func (s *jsonScanner) object(n *pathNode) {
	s.at++
	for s.next() != '}' {
		if s.text[s.at] == ',' {
			s.at++
			continue
		}
		start := s.at
		s.at = endOfString(s.text, start)
		child := n.children[string(s.text[start+1:s.at-1])]
		if key := s.text[start:s.at]; !isPlain(key) {
			var decoded string
			_ = json.Unmarshal(key, &decoded) // it is valid
			child = n.children[decoded]
		}
		s.next() // the colon
		s.at++
		if child == nil {
			s.next()
			s.skip()
			continue
		}
		child.clear(s.values)
		s.value(child)
	}
	s.at++
}

func (s *jsonScanner) list(n *pathNode) {
	s.at++
	for i := 0; s.next() != ']'; i++ {
		if s.text[s.at] == ',' {
			s.at++
			s.next()
		}
		if child := n.items[i]; child != nil {
			s.value(child)
		} else {
			s.skip()
		}
	}
	s.at++
}

// skip moves behind the value that begins at s.at.
func (s *jsonScanner) skip() {
	switch s.text[s.at] {
	case '"':
		s.at = endOfString(s.text, s.at)
		return
	case '{', '[':
	default:
		for s.at < len(s.text) && strings.IndexByte(",]} \t\n\r", s.text[s.at]) < 0 {
			s.at++
		}
		return
	}
	for depth := 0; ; s.at++ {
		switch s.text[s.at] {
		case '"':
			s.at = endOfString(s.text, s.at) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				s.at++
				return
			}
		}
	}
}

// decodeJSON returns the value of a valid JSON text, or an error.
func decodeJSON(text []byte) any {
	if len(text) > maxValue {
		return fmt.Errorf("the value in the body has more than %d bytes", maxValue)
	}
	switch c := text[0]; {
	case c == 'n':
		return nil
	case c == 't', c == 'f':
		return c == 't'
	case c == '-' || c >= '0' && c <= '9':
		f, _ := strconv.ParseFloat(string(text), 64) // ±Inf if it is out of range
		return f
	case c == '"' && isPlain(text):
		return string(text[1 : len(text)-1])
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil { // a number is out of range
		return fmt.Errorf("the value in the body: %w", err)
	}
	return v
}

// isPlain reports whether a JSON string is its own value: it has only ASCII, and no escapes.
func isPlain(text []byte) bool {
	for _, c := range text {
		if c == '\\' || c >= 0x80 {
			return false
		}
	}
	return true
}
