package proxy

import (
	"bytes"
	"fmt"
	"io"
	"slices"

	"cbproxy/internal/events"
)

// eventScanner looks for the names of server-sent events in a stream that passes by, as
// https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
// has it. It holds nothing back and keeps no more than the start of one line.
type eventScanner struct {
	names   []string
	line    []byte // the start of the current line, as far as it can matter
	longest int
	name    []byte // the current event's
	cr      bool   // the last byte was a CR, which a LF may follow
	begun   bool   // the stream's first line is over
}

var (
	eventField = []byte("event")
	utf8BOM    = []byte("\xEF\xBB\xBF")
)

func newEventScanner(names []string) *eventScanner {
	s := &eventScanner{names: names}
	for _, name := range names {
		s.longest = max(s.longest, len(name))
	}
	s.longest += len(utf8BOM) + len("event: ") + 1 // one more, so that a longer name is another
	return s
}

// scan returns the name of the first listed event that p completes, "" if there is none.
func (s *eventScanner) scan(p []byte) string {
	found := ""
	for len(p) > 0 {
		if s.cr && p[0] == '\n' {
			p = p[1:]
			s.cr = false
			continue
		}
		s.cr = false
		i := bytes.IndexAny(p, "\r\n")
		part := p
		if i >= 0 {
			part = p[:i]
		}
		if room := s.longest - len(s.line); room > 0 {
			s.line = append(s.line, part[:min(room, len(part))]...)
		}
		if i < 0 {
			break
		}
		s.cr = p[i] == '\r'
		p = p[i+1:]
		if name := s.endLine(); name != "" && found == "" {
			found = name
		}
	}
	return found
}

// endLine takes the line that has ended. An empty one ends the event.
func (s *eventScanner) endLine() string {
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

func (s *eventScanner) endEvent() string {
	i := slices.IndexFunc(s.names, func(name string) bool { return name == string(s.name) })
	s.name = s.name[:0]
	if i < 0 {
		return ""
	}
	return s.names[i]
}

// scan judges the upstream by the events in p. An event that the stream's end cuts short
// counts as well: whoever sent it meant it.
func (b *responseBody) scan(p []byte, err error) {
	name := b.events.scan(p)
	if name == "" && err == io.EOF {
		if name = b.events.endLine(); name == "" {
			name = b.events.endEvent()
		}
	}
	if name != "" {
		b.events = nil // one verdict a stream
		b.attempt.failed(events.ErrorSSE, fmt.Errorf("server-sent event %q", name))
	}
}
