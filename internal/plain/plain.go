// Package plain makes texts that others have a say in fit to be shown: of bounded length,
// valid UTF-8, and without anything that a terminal or a reader of lines acts on. It knows
// nobody.
package plain

import (
	"fmt"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// Line returns at most limit bytes of s and a few more, which tell how much is left out, with an
// escape for everything that does not print, line ends among it.
func Line(s string, limit int) string {
	return text(s, limit, func(r rune) bool { return unicode.IsPrint(r) })
}

// Lines is Line for texts of several lines: line ends and tabs stay as they are.
func Lines(s string, limit int) string {
	return text(s, limit, func(r rune) bool { return unicode.IsPrint(r) || r == '\n' || r == '\t' })
}

func text(s string, limit int, allowed func(rune) bool) string {
	omitted := max(0, len(s)-limit)
	s = s[:len(s)-omitted]
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' {
			return escape(s, limit, omitted, allowed)
		}
	}
	return tell(s, omitted)
}

func escape(s string, limit, omitted int, allowed func(rune) bool) string {
	b := make([]byte, 0, limit)
	for i := 0; i < len(s); {
		if len(b) >= limit {
			omitted += len(s) - i
			break
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b = fmt.Appendf(b, `\x%02x`, s[i])
		case r == utf8.RuneError || !allowed(r):
			quoted := strconv.QuoteRuneToASCII(r)
			b = append(b, quoted[1:len(quoted)-1]...)
		default:
			b = append(b, s[i:i+size]...)
		}
		i += size
	}
	return tell(string(b), omitted)
}

func tell(s string, omitted int) string {
	if omitted == 0 {
		return s
	}
	return s + "… (" + strconv.Itoa(omitted) + " bytes more)"
}
