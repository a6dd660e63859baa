package sanitize

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestTruncate(t *testing.T) {
	for _, c := range []struct {
		text  string
		limit int
		want  string
	}{
		{"", 0, ""},
		{"abc", 3, "abc"},
		{"abcd", 3, "abc…"},
		{"abc", 0, "…"},
		{"abc", -1, "…"},
		{"éé", 4, "éé"},
		{"ééé", 4, "éé…"},
		{"ééé", 3, "é…"},
		{"世界", 5, "世…"},
		{"x🚪", 4, "x…"},
		{"🚪", 3, "…"},
		{"\x80\x80\x80\x80\x80\x80", 4, "\x80\x80\x80\x80…"},
	} {
		if got := Truncate(c.text, c.limit); got != c.want {
			t.Errorf("Truncate(%q, %d) = %q, want %q", c.text, c.limit, got, c.want)
		}
	}
}

func TestTruncateRunes(t *testing.T) {
	for _, c := range []struct {
		text  string
		limit int
		want  string
	}{
		{"", 0, ""},
		{"abc", 3, "abc"},
		{"abcd", 3, "abc…"},
		{"abc", 0, "…"},
		{"世界", 2, "世界"},
		{"世界人", 2, "世界…"},
		{"\x80\x80\x80", 2, "\x80\x80…"},
	} {
		if got := TruncateRunes(c.text, c.limit); got != c.want {
			t.Errorf("TruncateRunes(%q, %d) = %q, want %q", c.text, c.limit, got, c.want)
		}
	}
}

func FuzzTruncate(f *testing.F) {
	f.Add("世界", 4)
	f.Add(strings.Repeat("\x80", 8), 5)
	f.Add("x🚪", 3)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = max(0, limit%4096)
		bytes, runes := Truncate(s, limit), TruncateRunes(s, limit)
		if len(bytes) > limit+len(ellipsis) {
			t.Errorf("Truncate: %d bytes, limit %d", len(bytes), limit)
		}
		if n := utf8.RuneCountInString(runes); n > limit+1 {
			t.Errorf("TruncateRunes: %d runes, limit %d", n, limit)
		}
		for _, got := range []string{bytes, runes} {
			if got != s && !strings.HasPrefix(s, strings.TrimSuffix(got, ellipsis)) {
				t.Errorf("%q is no prefix of %q", got, s)
			}
			if utf8.ValidString(s) && !utf8.ValidString(got) {
				t.Errorf("%q is not valid UTF-8", got)
			}
		}
	})
}
