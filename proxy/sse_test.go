package proxy

import (
	"strings"
	"testing"
)

// firstListed finds the first listed event the slow way: with the whole stream at hand.
func firstListed(stream string, names ...string) string {
	stream = strings.TrimPrefix(stream, "\uFEFF")
	stream = strings.ReplaceAll(strings.ReplaceAll(stream, "\r\n", "\n"), "\r", "\n")
	lines := strings.Split(stream, "\n")
	name := ""
	for _, line := range lines[:len(lines)-1] { // the last one has no end
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

// The scanner finds what a reader of the whole stream finds, however the stream is cut.
func FuzzEventScanner(f *testing.F) {
	for _, seed := range []string{
		"event: error\ndata: x\n\n", "event:error\r\n\r\n", "event: error\r\r", "\uFEFFevent: fatal\n\n", "event: error\nevent: x\n\n",
		"event\n\n", "event: errors\n\nevent: error\n\n", ": event: error\n\n", "data: x\n\n\n\r\revent: fatal\r\n\n", "event: error",
		"event: error" + strings.Repeat("x", 50) + "\n\n", "event: \uFEFFerror\n\n",
	} {
		f.Add(seed, 1)
		f.Add(seed, 7)
	}
	f.Fuzz(func(t *testing.T, stream string, size int) {
		s, got := newEventScanner([]string{"error", "fatal"}), ""
		for rest := []byte(stream); len(rest) > 0 && got == ""; {
			n := min(len(rest), max(size, 1))
			got = s.scan(rest[:n])
			rest = rest[n:]
		}
		if want := firstListed(stream, "error", "fatal"); got != want {
			t.Errorf("found %q in %q, want %q", got, stream, want)
		}
		if cap(s.line) > 1<<10 {
			t.Errorf("%d bytes are held back", cap(s.line))
		}
	})
}
