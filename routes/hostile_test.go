package routes_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"cbproxy/routes"
)

// lines returns n lines made by format from their number.
func lines(n int, format string) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, format, i)
	}
	return out.String()
}

func bomb() string {
	out := "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
	for i := 1; i < 20; i++ {
		out += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9))
	}
	return out
}

func steps(n int) string {
	var out strings.Builder
	for i := range n {
		out.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return out.String()
}

func hostile() map[string]string {
	const mib = 1 << 20
	return map[string]string{
		"too long":           strings.Repeat("#", mib+1),
		"brackets":           strings.Repeat("[", mib),
		"braces":             strings.Repeat("{", mib),
		"explicit keys":      strings.Repeat("? ", mib/2),
		"dashes":             strings.Repeat("- ", mib/2),
		"nested flow":        "a: " + strings.Repeat("[", 9999) + strings.Repeat("]", 9999),
		"nested blocks":      steps(1400),
		"long list":          "a: [" + strings.Repeat("a,", 199_000) + "]",
		"anchors":            "a:\n" + lines(60_000, "- &a%d b\n"),
		"alias bomb":         bomb(),
		"alias cycle":        "a: &a [*a, *a]",
		"alias cycle merged": "a: &a {<<: *a, b: *a}",
		"merge of thousands": "a: &a\n" + lines(30_000, " k%d: 1\n") + lines(30_000, "j%d: 1\n") + "<<: *a\n",
		"unknown keys":       lines(60_000, "timeoutt%d: 1\n"),
		"duplicates":         strings.Repeat("a: 1\n", 100_000),
		"huge key":           "? " + strings.Repeat("k", mib-10) + "\n: 1",
		"huge value":         "listen: " + strings.Repeat("k", mib-10),
		"huge indent":        strings.Repeat(" ", mib-5) + "a: b",
		"comments in flow":   "a: [\n" + strings.Repeat("a, #\n", 60_000) + "]",
		"open quote":         `"` + strings.Repeat(`\n`, mib/2-10),
		"equal prefixes":     "routes:\n" + lines(18_000, " k%d: {prefix: /a, upstream: http://a}\n"),
		"expansions":         minimal + "fallbacks: {a: {static: {body: \"" + strings.Repeat("${LONG}", 100_000) + "\"}}}",
		"dotted headers": minimal + "fallbacks:\n a:\n  static:\n   headers:\n    Date: x\n" +
			lines(40_000, "    a..b.c.%d: [x]\n"),
	}
}

func TestHostileFilesAreRejectedWithinMemoryLimit(t *testing.T) {
	l := loader("LONG=" + strings.Repeat("x", 100_000))
	for name, content := range hostile() {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := l.Parse([]byte(content))
			runtime.ReadMemStats(&after)
			var faults routes.Faults
			if !errors.As(err, &faults) {
				t.Fatalf("got %v, want Faults", err)
			}
			if len(faults) > 1001 || len(faults.Error()) > 1<<20 {
				t.Errorf("got %d faults in %d bytes", len(faults), len(faults.Error()))
			}
			if spent := (after.TotalAlloc - before.TotalAlloc) >> 20; spent > 256 {
				t.Errorf("allocated %d MiB", spent)
			}
		})
	}
}
