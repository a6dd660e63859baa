package strictyaml_test

import (
	"strings"
	"testing"

	"cbproxy/internal/strictyaml"
)

func TestParseRejectsInvalidDocuments(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"empty":                      {"", "f.yaml:1:1: file: must be a mapping with at least routes, got an empty file"},
		"only a comment":             {"# nothing\n", "f.yaml:1:1: file: must be a mapping with at least routes, got an empty file"},
		"null":                       {"~\n", "f.yaml:1:1: file: must be a mapping, got null"},
		"list":                       {"\n- name\n", "f.yaml:2:1: file: must be a mapping, got a list"},
		"text":                       {"name\n", "f.yaml:1:1: file: must be a mapping, got name"},
		"second document":            {"name: a\n---\nname: b\n", "f.yaml:2:1: file: must be one document, got a second one"},
		"second document is invalid": {"name: a\n---\nname: [\n", "f.yaml:4:1: file: must be YAML: did not find expected node content in the block that begins here"},
		"unclosed quote":             {"name: a\nmode: \"x\n", "f.yaml:2:1: file: must be YAML: found unexpected end of stream"},
		"tab":                        {"nested:\n\tfirst_value: 1\n", "f.yaml:2:1: file: must be YAML: found character that cannot start any token"},
		"unknown anchor":             {"name: a\nmode: *missing\n", "f.yaml:2:7: file: must be YAML: unknown anchor 'missing' referenced"},
		"not UTF-8":                  {"name: caf\xe9\n", "f.yaml:1:10: file: must be UTF-8, got byte 0xe9"},
		"control character":          {"name: é\x1b[31m\n", "f.yaml:1:8: file: must be text, got control character U+001B"},
		"C1 control character":       {"name: a\n# \u009b\n", "f.yaml:2:3: file: must be text, got control character U+009B"},
		"DEL":                        {"name: \x7f\n", "f.yaml:1:7: file: must be text, got control character U+007F"},
		"NUL":                        {"name: \x00\n", "f.yaml:1:7: file: must be text, got control character U+0000"},
		"the last C1 character":      {"name: \u009f\n", "f.yaml:1:7: file: must be text, got control character U+009F"},
	} {
		t.Run(name, func(t *testing.T) {
			faults := &strictyaml.Collector{File: "f.yaml"}
			if root := strictyaml.Parse([]byte(c.text), faults); root != nil {
				t.Errorf("got a %s", strictyaml.Show(root))
			}
			if got := message(t, faults.Err()); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestParseAcceptsOneDocument(t *testing.T) {
	for _, text := range []string{"name: a", "---\nname: a\n", "---\nname: a\n...\n", "name: a\r\n", "\ufeffname: a\n", "name:\ta # \u0085\n", "name: a # \u00a0~\n"} {
		var d document
		if faults := decode(t, text, nil, &d); faults != "" || d.Name != "a" {
			t.Errorf("%q: name %q, faults %s", text, d.Name, faults)
		}
	}
}

func TestParseLimitsSize(t *testing.T) {
	long := "name: " + strings.Repeat("x", strictyaml.MaxFileBytes-len("name: "))
	checkFaults(t, long, nil)
	checkFaults(t, long+"x", nil, "f.yaml:1:1: file: must be at most 1 MiB, got more")

	const limit = 200_000 // YAML indicators
	dense := "name: x" + strings.Repeat("-", limit-1)
	checkFaults(t, dense, nil)
	checkFaults(t, dense+"-", nil, "f.yaml:1:200007: file: must have at most 200000 YAML indicators, the limit is exceeded here")
	checkFaults(t, "name: x"+strings.Repeat("\n", limit), nil, "f.yaml:200000:1: file: must have at most 200000 YAML indicators, the limit is exceeded here")
	for _, text := range []string{long + "x", dense + "-"} {
		if root := strictyaml.Parse([]byte(text), new(strictyaml.Collector)); root != nil {
			t.Errorf("got a %s from a document that is too large", strictyaml.Show(root))
		}
	}
}
