package strictyaml_test

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"cbproxy/internal/strictyaml"
)

// FuzzDecode checks that every document is either decoded into a valid value, always the same one, or has faults with positions
// and printable texts.
func FuzzDecode(f *testing.F) {
	for _, pattern := range []string{"good", "bad"} {
		names, err := filepath.Glob("../../routes/testdata/" + pattern + "/*.yaml")
		if err != nil || len(names) == 0 {
			f.Fatalf("no documents in routes/testdata/%s: %v", pattern, err)
		}
		for _, name := range names {
			f.Add(string(readFile(f, name)), "value")
		}
	}
	f.Add("name: ${X}\ncount: ${X}\nwait: ${X}s\nlimit: ${X}KiB\nextra: &a {b: *a, <<: *a}\n", "7")
	f.Add("name: \"a\r\r\r\rb\ncount: \"1", "")
	f.Add("weights: {a: 1}\nwords: [a, b]\nmode: fast\ncodes: [A]\nnested: &n {first_value: 1}\nextra: [*n, 1.5, null]\n", "")
	f.Fuzz(func(t *testing.T, text, variable string) {
		environ := map[string]string{"X": variable}
		faults := &strictyaml.Collector{File: "f.yaml"}
		var d document
		if root := strictyaml.Parse([]byte(text), faults); root != nil {
			if tree, ok := strictyaml.Flatten(root, environ, faults); ok {
				decoder := strictyaml.Decoder{Faults: faults, Expanded: tree.Expanded, Forms: forms}
				decoder.Struct(tree.Root, strictyaml.Place{}, reflect.ValueOf(&d).Elem(), nil)
			} else if len(faults.Faults) == 0 {
				t.Fatal("an incomplete tree without a fault")
			}
		} else if len(faults.Faults) != 1 {
			t.Fatalf("%d faults of a document that was not parsed", len(faults.Faults))
		}
		lines := 2                                                                     // the last one, and the one after the end, where the parser reports what is missing
		for _, lineBreak := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029"} { // YAML 1.1, section 5.4
			lines += strings.Count(text, lineBreak)
		}
		for _, fault := range faults.Faults {
			line := fault.String()
			if fault.Line < 1 || fault.Column < 1 || fault.Line > lines || fault.Path == "" || fault.Message == "" {
				t.Errorf("got %#v", fault)
			}
			if !utf8.ValidString(line) || strings.ContainsFunc(line, unicode.IsControl) || len(line) > 10_000 {
				t.Errorf("got %q", line)
			}
		}
		checkRules(t, &d)
		if len(faults.Faults) > 0 {
			return
		}
		var again document
		if faults := decode(t, text, environ, &again); faults != "" || !reflect.DeepEqual(d, again) {
			t.Errorf("got %+v, and then %+v, %s", d, again, faults)
		}
	})
}

// checkRules checks that every field of d has a value that its tags allow, or none.
func checkRules(t *testing.T, d *document) {
	if d.Count < 0 || d.Count > 10 || d.Ratio < 0 || d.Ratio > 1 || d.Wait < 0 || d.Delay < 0 ||
		d.Limit != 0 && (d.Limit < 1<<10 || d.Limit > 1<<20) || d.Mode != "" && d.Mode != "fast" && d.Mode != "safe" ||
		len(d.Words) > 2 || d.Skipped != nil || d.Hidden != "" {
		t.Errorf("got %+v", d)
	}
	for _, w := range d.Words {
		if strings.Contains(w, " ") {
			t.Errorf("got the word %q", w)
		}
	}
	for key, w := range d.Weights {
		if !(w >= 0) {
			t.Errorf("got the weight %s: %v", key, w)
		}
	}
}

// FuzzScalars checks that durations and sizes are parsed in one way only, and that every accepted size can be written again.
func FuzzScalars(f *testing.F) {
	for _, text := range []string{"", "0", "010", "1e3", "1.5", "30s", "1h30m", "64KiB", "1 MB", "9223372036854775807", "-8589934592GiB", "1µs", "0x10", "٣"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if size, want := strictyaml.ParseSize(text); (want == "") != strictyaml.SizePattern.MatchString(text) && want != "must be a size of fewer than 8 EiB" {
			t.Errorf("%q: %s", text, want)
		} else if again, fault := strictyaml.ParseSize(size.String()); want == "" && (again != size || fault != "") {
			t.Errorf("%q: %d is written as %s and parsed as %d, %s", text, size, size, again, fault)
		}
		_, want := strictyaml.ParseDuration(text)
		if matches := strictyaml.DurationPattern.MatchString(text) || strictyaml.FloatPattern.MatchString(text); (want == "") != matches && want != "must be a duration of at most 292 years" {
			t.Errorf("%q: %s", text, want)
		}
	})
}
