package strictyaml_test

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"cbproxy/internal/strictyaml"
)

// document has a field of each kind that a Decoder supports.
type document struct {
	Name    string             `yaml:"name"`
	Enabled bool               `yaml:"enabled"`
	Count   int                `yaml:"count" valid:"1..10"`
	Total   int64              `yaml:"total"`
	Ratio   float64            `yaml:"ratio" valid:"0..1"`
	Chance  float64            `yaml:"chance" valid:"1e-30..0.1"`
	Wait    time.Duration      `yaml:"wait" valid:"positive"`
	Delay   time.Duration      `yaml:"delay" valid:"non-negative"`
	Limit   strictyaml.Size    `yaml:"limit" valid:"1KiB..1MiB"`
	Mode    string             `yaml:"mode" enum:"fast,safe"`
	Words   []string           `yaml:"words" valid:"word" most:"2"`
	Weights map[string]float64 `yaml:"weights" valid:"0.."`
	Extra   any                `yaml:"extra"`
	Nested  nested             `yaml:"nested"`
	Codes   codes              `yaml:"codes"`
	Skipped *nested            `yaml:"skipped"`
	Hidden  string             `yaml:"-"`
	Plain   string

	Limits nestedSettings `yaml:"limits"`
}

// nestedSettings are settings that may be automatic.
type nestedSettings struct {
	Calls strictyaml.OrAuto[int]           `yaml:"calls" valid:"1..10"`
	Pause strictyaml.OrAuto[time.Duration] `yaml:"pause" valid:"positive"`
}

type nested struct {
	First  int `yaml:"first_value"`
	Second int `yaml:"second_value"`
}

// codes is a list of texts with an UnmarshalYAML.
type codes []string

func (c *codes) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.MappingNode {
		return strictyaml.Errorf("must be a code or a list of codes, got %s", strictyaml.Show(n))
	}
	return strictyaml.EachScalar(n, "must be a code", func(text string) string {
		if strings.ToUpper(text) != text {
			return "must be in upper case"
		}
		*c = append(*c, text)
		return ""
	})
}

// forms are the checks for the valid tag word.
var forms = map[string]func(string) string{
	"word": func(text string) string {
		if strings.Contains(text, " ") {
			return "must be a single word"
		}
		return ""
	},
}

// decode decodes a document on top of v. It returns the faults, one per line, "" if there are none.
func decode(t testing.TB, text string, environ map[string]string, v *document) string {
	t.Helper()
	faults := &strictyaml.Collector{File: "f.yaml"}
	if root := strictyaml.Parse([]byte(text), faults); root != nil {
		if tree, ok := strictyaml.Flatten(root, environ, faults); ok {
			d := strictyaml.Decoder{Faults: faults, Expanded: tree.Expanded, Forms: forms}
			d.Struct(tree.Root, strictyaml.Place{}, reflect.ValueOf(v).Elem(), nil)
		}
	}
	return message(t, faults.Err())
}

// message returns the text of an error, which must be a Faults or nil.
func message(t testing.TB, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var faults strictyaml.Faults
	if !errors.As(err, &faults) || len(faults) == 0 {
		t.Fatalf("got %T %v, want Faults", err, err)
	}
	return err.Error()
}

// checkFaults decodes text, which must have exactly the given faults.
func checkFaults(t *testing.T, text string, environ map[string]string, want ...string) {
	t.Helper()
	if got := decode(t, text, environ, new(document)); got != strings.Join(want, "\n") {
		t.Errorf("%s\ngot\n%s\nwant\n%s", text, got, strings.Join(want, "\n"))
	}
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
