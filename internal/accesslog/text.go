package accesslog

import (
	"fmt"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// What of one text is logged, in bytes: so much that a line, in which quoting may make twice
// as much of each, is never longer than what a pipe takes at once.
const (
	maxPath  = 640
	maxQuery = 512
	maxAgent = 192
	maxName  = 128 // a service's
	maxWord  = 64  // what is a word where nobody means harm
)

// plain returns at most limit bytes of s and a few more, with an escape for everything that a
// terminal or a reader of lines may act on, and for what is no UTF-8.
func plain(s string, limit int) string {
	omitted := max(0, len(s)-limit)
	s = s[:len(s)-omitted]
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' {
			return escape(s, limit, omitted)
		}
	}
	return tell(s, omitted)
}

func escape(s string, limit, omitted int) string {
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
		case r == utf8.RuneError || !unicode.IsPrint(r):
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
