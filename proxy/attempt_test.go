package proxy

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestClipCutsBetweenCharacters(t *testing.T) {
	for _, s := range []string{"", "short", strings.Repeat("x", maxDetail), strings.Repeat("x", maxDetail+1), "x" + strings.Repeat("é", maxDetail),
		"xx" + strings.Repeat("世", maxDetail), "xxx" + strings.Repeat("🚪", maxDetail), strings.Repeat("\x80", 2*maxDetail)} {
		got := clip(s)
		if len(got) > maxDetail+len("…") || len(s) <= maxDetail && got != s || utf8.ValidString(s) && !utf8.ValidString(got) {
			t.Errorf("%d bytes of %q become %d, valid %v", len(s), s[:min(len(s), 8)], len(got), utf8.ValidString(got))
		}
	}
}
