// Package sse finds server-sent events by name in a stream.
package sse

import (
	"bytes"
	"slices"
)

// Scanner looks for events with given names in a stream of server-sent events, parsed as in
// https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream.
// It buffers only the start of one line. It is not safe for concurrent use.
type Scanner struct {
	names   []string
	line    []byte // the start of the current line, at most maxLine bytes
	maxLine int
	name    []byte // the name of the current event
	afterCR bool   // the last byte was a CR, and a following LF belongs to the same line end
	begun   bool   // the first line of the stream is complete
}

var (
	eventField = []byte("event")
	utf8BOM    = []byte("\xEF\xBB\xBF")
)

// NewScanner returns a scanner for events with one of the given names.
func NewScanner(names []string) *Scanner {
	s := &Scanner{names: names}
	for _, name := range names {
		s.maxLine = max(s.maxLine, len(name))
	}
	s.maxLine += len(utf8BOM) + len("event: ") + 1 // one more byte, so that a longer name does not match
	return s
}

// Scan processes the next bytes of the stream. It returns the name of the first matching event that they complete, or ""
// if there is none.
func (s *Scanner) Scan(p []byte) string {
	found := ""
	for len(p) > 0 {
		if s.afterCR && p[0] == '\n' {
			p = p[1:]
			s.afterCR = false
			continue
		}
		s.afterCR = false
		i := bytes.IndexAny(p, "\r\n")
		part := p
		if i >= 0 {
			part = p[:i]
		}
		if free := s.maxLine - len(s.line); free > 0 {
			s.line = append(s.line, part[:min(free, len(part))]...)
		}
		if i < 0 {
			break
		}
		s.afterCR = p[i] == '\r'
		p = p[i+1:]
		if name := s.endLine(); name != "" && found == "" {
			found = name
		}
	}
	return found
}

// End is called at the end of the stream. It returns the name of an incomplete last event if that matches, or "".
func (s *Scanner) End() string {
	if name := s.endLine(); name != "" {
		return name
	}
	return s.endEvent()
}

// endLine processes the current line, which is complete. An empty line ends the event.
func (s *Scanner) endLine() string {
	line := s.line
	if !s.begun {
		line = bytes.TrimPrefix(line, utf8BOM)
		s.begun = true
	}
	s.line = s.line[:0]
	if len(line) == 0 {
		return s.endEvent()
	}
	field, value, _ := bytes.Cut(line, []byte(":"))
	if bytes.Equal(field, eventField) {
		s.name = append(s.name[:0], bytes.TrimPrefix(value, []byte(" "))...)
	}
	return ""
}

// endEvent returns the name of the current event if it is one of names, or "".
func (s *Scanner) endEvent() string {
	i := slices.IndexFunc(s.names, func(name string) bool { return name == string(s.name) })
	s.name = s.name[:0]
	if i < 0 {
		return ""
	}
	return s.names[i]
}
