package sanitize

import "unicode/utf8"

const ellipsis = "…"

// Truncate returns s unchanged if it has at most maxBytes bytes. Otherwise it returns the longest
// prefix of at most maxBytes bytes that does not end inside a UTF-8 sequence, followed by "…".
func Truncate(s string, maxBytes int) string {
	if len(s) <= maxBytes {
		return s
	}
	return s[:runeBoundary(s, maxBytes)] + ellipsis
}

// TruncateRunes is Truncate with a limit in runes. A byte that is not valid UTF-8 counts as a rune.
func TruncateRunes(s string, maxRunes int) string {
	if len(s) <= maxRunes {
		return s
	}
	runes := 0
	for i := range s {
		if runes == maxRunes {
			return s[:i] + ellipsis
		}
		runes++
	}
	return s
}

// runeBoundary returns the largest index of at most limit at which a rune of s begins. If the bytes
// before limit are not valid UTF-8, it returns limit. limit must be less than len(s).
func runeBoundary(s string, limit int) int {
	limit = max(0, limit)
	for i := limit; i >= 0 && i > limit-utf8.UTFMax; i-- {
		if utf8.RuneStart(s[i]) {
			return i
		}
	}
	return limit
}
