package strictyaml_test

import (
	"testing"

	"gopkg.in/yaml.v3"

	"cbproxy/internal/strictyaml"
)

const located = `a:
  b: 1
  list:
    - x
    - name: y
headers:
  x.y: 1
  x: {z: 2}
`

func TestLocate(t *testing.T) {
	root := strictyaml.Parse([]byte(located), &strictyaml.Collector{})
	for path, want := range map[string]strictyaml.Place{
		"a":              {Path: "top.a", Line: 1, Column: 1},
		"a.b":            {Path: "top.a.b", Line: 2, Column: 3},
		"a.list[0]":      {Path: "top.a.list[0]", Line: 4, Column: 7},
		"a.list[1].name": {Path: "top.a.list[1].name", Line: 5, Column: 7},
		"headers.x.y":    {Path: "top.headers.x.y", Line: 7, Column: 3},
		"headers.x.z":    {Path: "top.headers.x.z", Line: 8, Column: 7},
		"a.missing":      {Path: "top.a.missing", Line: 1, Column: 1},
		"a.list[2]":      {Path: "top.a.list[2]", Line: 3, Column: 3},
		"a.list[7]":      {Path: "top.a.list[7]", Line: 3, Column: 3},
		"a.list[x]":      {Path: "top.a.list[x]", Line: 3, Column: 3},
		"a.list[-1]":     {Path: "top.a.list[-1]", Line: 3, Column: 3},
		"a.b.c":          {Path: "top.a.b.c", Line: 2, Column: 3},
		"missing.a":      {Path: "top.missing.a", Line: 9, Column: 9},
	} {
		if got := strictyaml.Locate(root, strictyaml.Place{Path: "top", Line: 9, Column: 9}, path); got != want {
			t.Errorf("%q: got %+v, want %+v", path, got, want)
		}
	}
	if got, want := strictyaml.Locate(nil, strictyaml.Place{Line: 1, Column: 1}, "a.b"), (strictyaml.Place{Path: "a.b", Line: 1, Column: 1}); got != want {
		t.Errorf("without a tree: got %+v", got)
	}
}

func TestLookup(t *testing.T) {
	root := strictyaml.Parse([]byte(located), &strictyaml.Collector{})
	if value, key := strictyaml.Lookup(root, "headers"); value == nil || key == nil || key.Line != 6 || value.Kind != yaml.MappingNode {
		t.Errorf("got %v, %v", value, key)
	}
	list, _ := strictyaml.Lookup(root.Content[1], "list")
	for _, n := range []*yaml.Node{nil, root, list} {
		if value, key := strictyaml.Lookup(n, "missing"); value != nil || key != nil {
			t.Errorf("got %v, %v", value, key)
		}
	}
}

func TestShow(t *testing.T) {
	for text, want := range map[string]string{
		"{a: 1}": "a mapping", "[a]": "a list", "~": "null", "plain": "plain", "010": "010", "\"quoted\"": `"quoted"`, "'quoted'": `"quoted"`, "|\n  literal\n": `"literal\n"`,
		"''": `""`, "\"a\\nb\"": `"a\nb"`, "\"\\e[31m\"": `"\x1b[31m"`, "http://user:secret@host/": "http://redacted@host/",
		longText + longText: longText + longText[:strictyaml.MaxValueRunes-len(longText)] + "…",
	} {
		root := strictyaml.Parse([]byte("a: "+text), &strictyaml.Collector{})
		if got := strictyaml.Show(root.Content[1]); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

const longText = "a text of fifty characters, which is half of them.."

func TestPlaces(t *testing.T) {
	top := strictyaml.Place{Path: "a"}
	for key, want := range map[string]string{"b": "a.b", "b c": "a.b c", "": `a.""`, " b": `a." b"`, "\x1b[31m": `a."\x1b[31m"`, "x\ny": `a."x\ny"`} {
		if got := top.Key(&yaml.Node{Value: key, Line: 2, Column: 3}); got != (strictyaml.Place{Path: want, Line: 2, Column: 3}) {
			t.Errorf("%q: got %+v, want %s", key, got, want)
		}
	}
	if got := top.Item(4, &yaml.Node{Line: 2, Column: 3}); got != (strictyaml.Place{Path: "a[4]", Line: 2, Column: 3}) {
		t.Errorf("got %+v", got)
	}
	if a, b := strictyaml.Join("", "x"), strictyaml.Join("a.b", "x"); a != "x" || b != "a.b.x" {
		t.Errorf("got %s, %s", a, b)
	}
}
