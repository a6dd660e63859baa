package statusview

import (
	"slices"
	"strings"
	"testing"
)

func TestFitTruncatesLines(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		line    string
		columns int
		want    string
	}{
		{"", 3, ""},
		{"abc", 3, "abc"},
		{"abcd", 3, "ab…"},
		{"abcd", 1, "…"},
		{"\x1b[31mabc\x1b[0m", 3, "\x1b[31mabc\x1b[0m"},
		{"\x1b[31mabcd\x1b[0m e", 3, "\x1b[31mab…\x1b[0m"},
		{"abc \x1b[31md\x1b[0m", 3, "ab…\x1b[31m\x1b[0m"},
		{"世界", 4, "世界"},
		{"世界", 3, "世…"},
		{"a世界", 3, "a…"},
		{"e\u0301e\u0301", 2, "e\u0301e\u0301"},
		{"e\u0301e\u0301e", 2, "e\u0301…"},
		{"ééé", 2, "é…"},
	} {
		if got := fit(c.line, c.columns, 1)[0]; got != c.want {
			t.Errorf("fit(%q, %d) = %q, want %q", c.line, c.columns, got, c.want)
		}
	}
}

func TestFitCountsOmittedLines(t *testing.T) {
	t.Parallel()
	const text = "one\ntwo\nthree\nfour\n"
	for rows, want := range map[int][]string{
		0: {}, 1: {"… and 4 more lines"}, 2: {"one", "… and 3 more lines"}, 3: {"one", "two", "… and 2 more lines"},
		4: {"one", "two", "three", "four"}, 9: {"one", "two", "three", "four"},
	} {
		if got := fit(text, 80, rows); !slices.Equal(got, want) {
			t.Errorf("%d rows: %q, want %q", rows, got, want)
		}
	}
	if got := fit(text, 4, 2); !slices.Equal(got, []string{"one", "… a…"}) {
		t.Errorf("%q", got)
	}
}

func TestFrameStaysWithinWindow(t *testing.T) {
	t.Parallel()
	s := &Screen{}
	for i, begins := range []string{"\n\n\n\x1b[H", "\x1b[H"} {
		frame := s.frame([]string{"a", "b"}, 3)
		body, ok := strings.CutPrefix(frame, begins)
		if !ok || strings.Count(body, "\n") != 2 {
			t.Errorf("frame %d: %q", i, frame)
		}
	}
}
