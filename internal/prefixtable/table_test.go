package prefixtable_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"cbproxy/internal/prefixtable"
)

func table(prefixes ...string) *prefixtable.Table[string] {
	t := prefixtable.New[string]()
	for _, prefix := range prefixes {
		t.Add(prefix, prefix)
	}
	return t
}

func TestMatch(t *testing.T) {
	some := table("/rag", "/rag/deep/er", "/caf%C3%A9", "/a b", "/a/b")
	for _, test := range []struct {
		path, want string
		covered    int
	}{
		{"/rag", "/rag", 4},
		{"/rag/", "/rag", 4},
		{"/rag/x/y", "/rag", 4},
		{"/rag//x", "/rag", 4},
		{"/%72ag/x", "/rag", 6},
		{"/%72%61%67", "/rag", 10},
		{"/rag/deep", "/rag", 4},
		{"/rag/deep/er/x", "/rag/deep/er", 12},
		{"/rag/deep/erx", "/rag", 4},
		{"/rag/de%65p/er", "/rag/deep/er", 14},
		{"/café/x", "/caf%C3%A9", 6},
		{"/caf%c3%a9/x", "/caf%C3%A9", 10},
		{"/a%20b", "/a b", 6},
		{"/ragx", "", 0},
		{"/rag%2Fx", "", 0},
		{"/a%2Fb", "", 0},
		{"/Rag", "", 0},
		{"//rag", "", 0},
		{"/%zz/rag", "", 0},
		{"/", "", 0},
		{"", "", 0},
		{"*", "", 0},
		{"rag", "", 0},
	} {
		got, covered, ok := some.Match(test.path)
		if got != test.want || covered != test.covered || ok != (test.want != "") {
			t.Errorf("Match(%q): got %q, %d, %t, want %q, %d", test.path, got, covered, ok, test.want, test.covered)
		}
	}
}

func TestRootPrefixMatchesAll(t *testing.T) {
	all := table("/", "/rag")
	for path, want := range map[string]string{"/": "/", "/x": "/", "//": "/", "/%zz": "/", "/rag/x": "/rag", "/ragx": "/"} {
		got, covered, ok := all.Match(path)
		if !ok || got != want || want == "/" && covered != 0 {
			t.Errorf("Match(%q): got %q, %d, %t, want %q", path, got, covered, ok, want)
		}
	}
	if _, _, ok := all.Match("*"); ok {
		t.Error("matches what is no path")
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	some := table("/rag", "/rules")
	if n := testing.AllocsPerRun(100, func() { some.Match("/rag/some/path") }); n != 0 {
		t.Errorf("got %v allocations", n)
	}
}

// model is a simple implementation of Match that compares all prefixes.
func model(prefixes []string, path string) (longest string, covered int, ok bool) {
	if !strings.HasPrefix(path, "/") {
		return "", 0, false
	}
	segments := strings.Split(path[1:], "/")
	most := -1
	for _, prefix := range prefixes {
		var want []string
		if prefix != "/" {
			want = strings.Split(prefix[1:], "/")
		}
		if len(want) > len(segments) || len(want) <= most {
			continue
		}
		length, matches := 0, true
		for i, w := range want {
			wanted, _ := url.PathUnescape(w)
			got, err := url.PathUnescape(segments[i])
			matches = matches && err == nil && got == wanted
			length += 1 + len(segments[i])
		}
		if matches {
			longest, covered, ok, most = prefix, length, true, len(want)
		}
	}
	return longest, covered, ok
}

func FuzzMatch(f *testing.F) {
	prefixes := []string{"/", "/a", "/a/b", "/a/b/c/d", "/b", "/c%20d", "/e/%C3%A9"}
	for _, path := range []string{"/", "/a/b/c", "/%61/b", "/a%2Fb", "/c d/x", "/e/é/", "/%", "", "a", "//a"} {
		f.Add(path, true)
		f.Add(path, false)
	}
	f.Fuzz(func(t *testing.T, path string, root bool) {
		some := prefixes
		if !root {
			some = prefixes[1:]
		}
		got, covered, ok := table(some...).Match(path)
		want, wantCovered, wantOK := model(some, path)
		if got != want || covered != wantCovered || ok != wantOK {
			t.Errorf("Match(%q): got %q, %d, %t, want %q, %d, %t", path, got, covered, ok, want, wantCovered, wantOK)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{5, 1000} {
		t := prefixtable.New[int]()
		for i := range n {
			t.Add(fmt.Sprintf("/service%d", i), i)
		}
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				t.Match("/service3/some/longer/path")
			}
		})
	}
}
