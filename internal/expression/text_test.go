package expression

import (
	"reflect"
	"strings"
	"testing"

	"cbproxy/internal/strictyaml"
)

// options is a struct of a configuration with both kinds of expressions.
type options struct {
	OpenWhen    OpenWhenText    `yaml:"open_when"`
	FailureWhen FailureWhenText `yaml:"failure_when"`
}

// decodeOptions decodes a document and returns the faults.
func decodeOptions(t *testing.T, text string) (options, string) {
	t.Helper()
	faults := &strictyaml.Collector{File: "f.yaml"}
	root := strictyaml.Parse([]byte(text), faults)
	if root == nil {
		t.Fatal(faults.Err())
	}
	tree, _ := strictyaml.Flatten(root, map[string]string{"N": "20"}, faults)
	o := options{OpenWhen: "kept", FailureWhen: "kept"}
	d := strictyaml.Decoder{Faults: faults, Expanded: tree.Expanded}
	d.Struct(tree.Root, strictyaml.Place{}, reflect.ValueOf(&o).Elem(), nil)
	if err := faults.Err(); err != nil {
		return o, err.Error()
	}
	return o, ""
}

func TestTextIsDecoded(t *testing.T) {
	got, faults := decodeOptions(t, `
open_when: requests >= ${N} && failure_ratio > 0.3
failure_when: "status == 200 && header('X-Error') != ''"
`)
	want := options{"requests >= 20 && failure_ratio > 0.3", "status == 200 && header('X-Error') != ''"}
	if got != want || faults != "" {
		t.Errorf("got %+v, %s", got, faults)
	}
	if got, faults := decodeOptions(t, "open_when: ''\nfailure_when: \"\"\n"); got != (options{}) || faults != "" {
		t.Errorf("empty texts: got %+v, %s", got, faults)
	}
}

// A fault has the position of the error in the file: the column within the expression is added to that of the value.
func TestTextFaultsHavePositions(t *testing.T) {
	const unknown = "unknown name foo, must be one of "
	for text, want := range map[string]string{
		"open_when: requests > foo":                    "f.yaml:1:23: open_when: " + unknown,
		"open_when: 'requests > foo'":                  "f.yaml:1:24: open_when: " + unknown,
		`open_when: "requests > foo"`:                  "f.yaml:1:24: open_when: " + unknown,
		"failure_when: 'header(''é'') == '''' || foo'": "f.yaml:1:23: failure_when: the argument of header must be",
		"failure_when: 'header(''e'') == '''' || foo'": "f.yaml:1:41: failure_when: " + unknown,
		`failure_when: "header(\"e\") == \"\" || foo"`: "f.yaml:1:41: failure_when: " + unknown,
		"failure_when: |\n  status == 200 &&\n    foo": "f.yaml:3:1: failure_when: " + unknown,
		"failure_when: >\n  foo == 200\n":              "f.yaml:2:1: failure_when: " + unknown,
		"failure_when: status > 1 || grpc_status == 1": "f.yaml:1:41: failure_when: invalid operation: == (mismatched types string and int)",
		"failure_when: \"status ==\\n foo\"":           "f.yaml:1:15: failure_when: " + unknown,
		"open_when: [a]":                               "f.yaml:1:1: open_when: must be an expression in quotes, got a list",
		"open_when: ~":                                 "f.yaml:1:1: open_when: must be an expression in quotes, got null",
		"open_when: {a: b}":                            "f.yaml:1:1: open_when: must be an expression in quotes, got a mapping",
		"open_when: 5":                                 "f.yaml:1:12: open_when: must be true or false",
		"open_when: true && header('a') == ''":         "f.yaml:1:20: open_when: unknown function header",
	} {
		got, faults := decodeOptions(t, text)
		if !strings.HasPrefix(faults, want) {
			t.Errorf("%q: got %s, want %s", text, faults, want)
		}
		if got != (options{"kept", "kept"}) {
			t.Errorf("%q: got %+v, want the previous values", text, got)
		}
	}
}
