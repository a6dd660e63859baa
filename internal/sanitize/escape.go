package sanitize

import (
	"fmt"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// Line returns s on one line: line breaks and other characters that are not printable are replaced
// by Go escape sequences, bytes that are not valid UTF-8 by \x and two hexadecimal digits. The result
// ends after about maxBytes bytes with a note of how many bytes of s are omitted.
func Line(s string, maxBytes int) string {
	return sanitize(s, maxBytes, unicode.IsPrint)
}

// Lines is Line for text of several lines: line feeds and tabs are kept.
func Lines(s string, maxBytes int) string {
	return sanitize(s, maxBytes, func(r rune) bool { return unicode.IsPrint(r) || r == '\n' || r == '\t' })
}

func sanitize(s string, maxBytes int, allowed func(rune) bool) string {
	omitted := 0
	if len(s) > maxBytes {
		end := runeBoundary(s, maxBytes)
		s, omitted = s[:end], len(s)-end
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' {
			return escape(s, maxBytes, omitted, allowed)
		}
	}
	return appendOmitted(s, omitted)
}

// escape replaces the characters of s that are not allowed. omitted is how many bytes were cut off
// behind s; bytes that no longer fit because of the escape sequences are added to it.
func escape(s string, maxBytes, omitted int, allowed func(rune) bool) string {
	b := make([]byte, 0, maxBytes)
	for i := 0; i < len(s); {
		if len(b) >= maxBytes {
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
	return appendOmitted(string(b), omitted)
}

func appendOmitted(s string, omitted int) string {
	if omitted == 0 {
		return s
	}
	return s + ellipsis + " (" + strconv.Itoa(omitted) + " bytes more)"
}
