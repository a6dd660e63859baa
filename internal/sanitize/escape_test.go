package sanitize

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestLineAndLines(t *testing.T) {
	for _, c := range []struct {
		text        string
		limit       int
		line, lines string
	}{
		{"", 8, "", ""},
		{"as it is, é and 世界", 64, "as it is, é and 世界", "as it is, é and 世界"},
		{"a\r\n\tb", 64, `a\r\n\tb`, "a\\r\n\tb"},
		{"\x1b[31m\x00\x7f\u009b\u202e", 64, `\x1b[31m\x00\x7f\u009b\u202e`, `\x1b[31m\x00\x7f\u009b\u202e`},
		{"\xff\ufffd", 64, `\xff\ufffd`, `\xff\ufffd`},
		{`\n`, 64, `\n`, `\n`},
		{"12345678", 8, "12345678", "12345678"},
		{"123456789", 8, "12345678… (1 bytes more)", "12345678… (1 bytes more)"},
		{"\x01\x01\x01\x01", 4, `\x01… (3 bytes more)`, `\x01… (3 bytes more)`},
		{"ééé", 3, "é… (4 bytes more)", "é… (4 bytes more)"},
	} {
		if got := Line(c.text, c.limit); got != c.line {
			t.Errorf("Line(%q, %d) = %q, want %q", c.text, c.limit, got, c.line)
		}
		if got := Lines(c.text, c.limit); got != c.lines {
			t.Errorf("Lines(%q, %d) = %q, want %q", c.text, c.limit, got, c.lines)
		}
	}
}

func FuzzSanitize(f *testing.F) {
	f.Add("a\r\nb\x1b\xff\u2028", 4)
	f.Add(strings.Repeat("\x1b", 100), 64)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = max(0, limit%4096)
		const more = len("… ( bytes more)") + 20 + len(`\U00000000`)
		for _, got := range []string{Line(s, limit), strings.NewReplacer("\n", "", "\t", "").Replace(Lines(s, limit))} {
			if len(got) > limit+more {
				t.Fatalf("%d bytes, limit %d", len(got), limit)
			}
			if strings.ContainsFunc(got, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) {
				t.Fatalf("%q", got)
			}
		}
	})
}
