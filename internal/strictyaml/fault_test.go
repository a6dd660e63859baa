package strictyaml_test

import (
	"fmt"
	"strings"
	"testing"

	"cbproxy/internal/strictyaml"
)

func TestFaultString(t *testing.T) {
	for _, c := range []struct {
		fault strictyaml.Fault
		want  string
	}{
		{strictyaml.Fault{File: "f.yaml", Line: 12, Column: 5, Path: "a.b", Message: "must be c"}, "f.yaml:12:5: a.b: must be c"},
		{strictyaml.Fault{File: "f.yaml", Path: "VARIABLE", Message: "must be c"}, "environment: VARIABLE: must be c"},
	} {
		if got := c.fault.String(); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestCollectorSortsFaults(t *testing.T) {
	c := &strictyaml.Collector{File: "f.yaml"}
	if err := c.Err(); err != nil {
		t.Errorf("got %v", err)
	}
	for _, at := range []strictyaml.Place{{Path: "d", Line: 2, Column: 1}, {Path: "c", Line: 1, Column: 9}, {Path: "b", Line: 1, Column: 2}, {Path: "a", Line: 1, Column: 2}, {Path: "E"}, {}} {
		c.Add(at, "must be %s", "x\r\ny")
	}
	const want = `environment: E: must be x; y
environment: file: must be x; y
f.yaml:1:2: a: must be x; y
f.yaml:1:2: b: must be x; y
f.yaml:1:9: c: must be x; y
f.yaml:2:1: d: must be x; y`
	if got := message(t, c.Err()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestCollectorHas(t *testing.T) {
	c := new(strictyaml.Collector)
	c.Add(strictyaml.Place{Path: "routes.a.list[2]"}, "must be x")
	for path, want := range map[string]bool{
		"routes": true, "routes.a": true, "routes.a.list": true, "routes.a.list[2]": true,
		"routes.a.l": false, "route": false, "routes.b": false, "routes.a.list[2].x": false, "a": false,
	} {
		if got := c.Has(path); got != want {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
	}
}

func TestCollectorLimitsFaults(t *testing.T) {
	c := &strictyaml.Collector{File: "f.yaml"}
	c.Add(strictyaml.Place{Path: strings.Repeat("é", 400), Line: 1, Column: 1}, "must be x")
	if n := len([]rune(c.Faults[0].Path)); n != 301 {
		t.Errorf("a path of %d characters, want 300 and an ellipsis", n)
	}
	for line := 2; !c.Full(); line++ {
		c.Add(strictyaml.Place{Path: "a", Line: line, Column: 1}, "must be x")
	}
	c.Add(strictyaml.Place{Path: "a", Line: 1, Column: 1}, "must be x")
	if n := len(c.Faults); n != 1001 {
		t.Errorf("%d faults, want 1001", n)
	}
	if got, want := c.Faults[1000].String(), "f.yaml:1001:1: file: has more than 1000 faults, the rest is omitted"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if none := (*strictyaml.Collector)(nil); !none.Full() {
		t.Error("a nil Collector is not full")
	}
}

// A document with more faults than are kept is decoded to its end.
func TestManyFaults(t *testing.T) {
	var b strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&b, "unknown_%d: 1\n", i)
	}
	b.WriteString("name: last\n")
	var d document
	if got := decode(t, b.String(), nil, &d); strings.Count(got, "\n") != 1000 || d.Name != "last" {
		t.Errorf("%d lines, name %q", strings.Count(got, "\n")+1, d.Name)
	}
}
