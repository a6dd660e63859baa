package sse

import (
	"strings"
	"testing"
)

// firstListed finds the first listed event in a complete stream.
func firstListed(stream string, names ...string) string {
	stream = strings.TrimPrefix(stream, "\uFEFF")
	stream = strings.ReplaceAll(strings.ReplaceAll(stream, "\r\n", "\n"), "\r", "\n")
	lines := strings.Split(stream, "\n")
	name := ""
	for _, line := range lines[:len(lines)-1] { // the last line is incomplete
		field, value, _ := strings.Cut(line, ":")
		switch {
		case line == "":
			for _, listed := range names {
				if name == listed {
					return name
				}
			}
			name = ""
		case field == "event":
			name = strings.TrimPrefix(value, " ")
		}
	}
	return ""
}

// The scanner finds the same event as a parser of the complete stream, however the stream is split into reads.
func FuzzScanner(f *testing.F) {
	for _, seed := range []string{
		"event: error\ndata: x\n\n", "event:error\r\n\r\n", "event: error\r\r", "\uFEFFevent: fatal\n\n", "event: error\nevent: x\n\n",
		"event\n\n", "event: errors\n\nevent: error\n\n", ": event: error\n\n", "data: x\n\n\n\r\revent: fatal\r\n\n", "event: error",
		"event: error" + strings.Repeat("x", 50) + "\n\n", "event: \uFEFFerror\n\n",
	} {
		f.Add(seed, 1)
		f.Add(seed, 7)
	}
	f.Fuzz(func(t *testing.T, stream string, size int) {
		s, got := NewScanner([]string{"error", "fatal"}), ""
		for rest := []byte(stream); len(rest) > 0 && got == ""; {
			n := min(len(rest), max(size, 1))
			got = s.Scan(rest[:n])
			rest = rest[n:]
		}
		if want := firstListed(stream, "error", "fatal"); got != want {
			t.Errorf("found %q in %q, want %q", got, stream, want)
		}
		if cap(s.line) > 1<<10 {
			t.Errorf("%d bytes are buffered", cap(s.line))
		}
	})
}

func TestEndCompletesTheLastEvent(t *testing.T) {
	for stream, want := range map[string]string{
		"event: error":          "error",
		"event: error\ndata: x": "error",
		"event: error\ndata: ":  "error",
		"event: other\n":        "",
		"":                      "",
	} {
		s := NewScanner([]string{"error"})
		if got := s.Scan([]byte(stream)); got != "" {
			t.Errorf("%q: found %q before the end", stream, got)
		}
		if got := s.End(); got != want {
			t.Errorf("%q: found %q at the end, want %q", stream, got, want)
		}
	}
}
