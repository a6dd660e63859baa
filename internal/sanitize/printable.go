package sanitize

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable returns untrusted text as one line without control characters, safe to print on a terminal.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// Short returns Printable(s), truncated to n characters.
func Short(s string, n int) string {
	s = Printable(s)
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return TruncateRunes(s, n-1)
}
