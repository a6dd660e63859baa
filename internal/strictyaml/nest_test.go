package strictyaml_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"cbproxy/internal/strictyaml"
)

func TestNest(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"{a: 1, b.c: 2}":                    "a=1 b.c=2",
		"{a.b.c: 1, a.b.d: 2, a: {e.f: 3}}": "a.b.c=1 a.b.d=2 a.e.f=3",
		"{a: {b: {c: 1}}, a.b: {d: [1]}}":   "a.b.c=1 a.b.d=a list",
		"{a: 1, a.b: 2}":                    "a.b: is set twice",
		"{a.b: 2, a: 1}":                    "a: is set twice",
		"{a.b: 2, a: {b: 1}}":               "a.b: is set twice",
		"{a: {b: 1}, a.b: {c: 1}}":          "a.b: is set twice",
		"{a: {}, b: {c: {}}}":               "a: must have at least one key, got {}; b.c: must have at least one key, got {}",
		"{a.: 1, .b: 2, a..c: 3}":           "a..c: is set twice",
		strings.Repeat("a.", 400) + "a: 1":  strings.Repeat("a.", 400) + "a=1",
	} {
		faults := new(strictyaml.Collector)
		tree, _ := strictyaml.Flatten(strictyaml.Parse([]byte(text), faults), nil, faults)
		leaves := strictyaml.Leaves(strictyaml.Nest(tree.Root, faults))
		var got []string
		for _, f := range faults.Faults {
			got = append(got, f.Path+": "+f.Message)
		}
		separator := "; "
		if len(got) == 0 {
			separator = " "
			for _, path := range slices.Sorted(maps.Keys(leaves)) {
				got = append(got, fmt.Sprintf("%s=%s", path, strictyaml.Show(leaves[path])))
			}
		}
		if all := strings.Join(got, separator); all != want {
			t.Errorf("%s: %s, want %s", text, all, want)
		}
	}
}
