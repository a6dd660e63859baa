package strictyaml_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"cbproxy/internal/strictyaml"
)

func TestUnknownKeysSuggestSimilarOnes(t *testing.T) {
	const known = "first_value, second_value"
	for key, want := range map[string]string{
		"first_valeu": `unknown key, did you mean "first_value"?`,
		"frist_value": `unknown key, did you mean "first_value"?`,
		"first-value": `unknown key, did you mean "first_value"?`,
		"FIRST_VALUE": `unknown key, did you mean "first_value"?`,
		"firstvalue":  `unknown key, did you mean "first_value"?`,
		"secnd_vale":  `unknown key, did you mean "second_value"?`,
		"third":       "unknown key, must be one of " + known,
		"value":       "unknown key, must be one of " + known,
		"first_value_of_all_the_values_that_there_are": "unknown key, must be one of " + known,
		strings.Repeat("first_value", 7):               "unknown key, must be one of " + known,
	} {
		shown := key
		if len(shown) > strictyaml.MaxNameRunes {
			shown = shown[:strictyaml.MaxNameRunes] + "…"
		}
		checkFaults(t, "name: a\nnested:\n  "+key+": 1\n", nil, "f.yaml:3:3: nested."+shown+": "+want)
	}
	checkFaults(t, "skiped: {}\nhidden: x\nnaem: a\n", nil,
		`f.yaml:1:1: skiped: unknown key, did you mean "skipped"?`,
		"f.yaml:2:1: hidden: unknown key, must be one of chance, codes, count, delay, enabled, extra, limit, limits, mode, name, nested, plain, ratio, skipped, total, wait, weights, words",
		`f.yaml:3:1: naem: unknown key, did you mean "name"?`)
}

// The suggestion is the key with the smallest number of inserted, deleted, replaced and transposed bytes.
func TestUnknownKeysSuggestNearest(t *testing.T) {
	long := strings.Repeat("long_name", 7) + "x" // as long as a key with a suggestion may be
	for _, c := range []struct {
		key   string
		known []string
		want  string
	}{
		{"abcd", []string{"abxx", "abdc"}, "abdc"},
		{"abcde", []string{"abcxy", "abcd"}, "abcd"},
		{"abcd", []string{"abxy", "abcde"}, "abcde"},
		{"abcd", []string{"abxy", "abcx"}, "abcx"},
		{"abcd", []string{"abcx", "abxd"}, "abcx"}, // equally near: the first one
		{"abcd", []string{"axyz"}, ""},
		{"", []string{"a"}, "a"},
		{"", []string{"ab"}, ""},
		{long, []string{long[1:]}, long[1:]},
		{long + "y", []string{long}, ""},
	} {
		faults := new(strictyaml.Collector)
		(&strictyaml.Decoder{Faults: faults}).UnknownKey(strictyaml.Place{Path: "p"}, c.key, c.known)
		want := "unknown key, must be one of " + strings.Join(c.known, ", ")
		if c.want != "" {
			want = `unknown key, did you mean "` + c.want + `"?`
		}
		if got := faults.Faults[0].Message; got != want {
			t.Errorf("%q of %q: got %s, want %s", c.key, c.known, got, want)
		}
	}
}

// Struct passes keys without a field to the caller, and skips fields that the caller decodes.
func TestStructLeavesKeysToCaller(t *testing.T) {
	faults := &strictyaml.Collector{File: "f.yaml"}
	root := strictyaml.Parse([]byte("name: a\nother:\n  x: 1\nskipped: {first_value: x}\n"), faults)
	var d document
	var got []string
	decoder := strictyaml.Decoder{Faults: faults}
	decoder.Struct(root, strictyaml.Place{Path: "top"}, reflect.ValueOf(&d).Elem(), func(key, value *yaml.Node, at strictyaml.Place) {
		got = append(got, key.Value, at.Path)
		if at.Line != 2 || at.Column != 1 || value.Kind != yaml.MappingNode {
			t.Errorf("got %+v, kind %d", at, value.Kind)
		}
	})
	if want := []string{"other", "top.other"}; !slices.Equal(got, want) || faults.Err() != nil || d.Name != "a" || d.Skipped != nil {
		t.Errorf("got %v, %v, %+v", got, faults.Err(), d)
	}

	decoder.Struct(&yaml.Node{}, strictyaml.Place{}, reflect.ValueOf(&d).Elem(), nil) // a value whose fault has been reported
	if faults.Err() != nil {
		t.Errorf("got %v", faults.Err())
	}
}

func TestFieldsOf(t *testing.T) {
	fields := strictyaml.FieldsOf(reflect.TypeFor[struct {
		Tagged   int `yaml:"a_key"`
		Options  int `yaml:"b_key,omitempty"`
		Untagged int
		Inline   map[string]any `yaml:",inline"`
		Hidden   int            `yaml:"-"`
		private  int
	}]())
	names := map[string]string{}
	for key, f := range fields {
		names[key] = f.Name
	}
	if want := map[string]string{"a_key": "Tagged", "b_key": "Options", "untagged": "Untagged"}; !reflect.DeepEqual(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
}

func TestRulesOf(t *testing.T) {
	for tag, want := range map[reflect.StructTag]strictyaml.Rules{
		``:                              {},
		`yaml:"x" valid:"1..2"`:         {Valid: "1..2"},
		`enum:"a,b" most:"3"`:           {Enum: []string{"a", "b"}, MaxItems: 3},
		`valid:"word" enum:"a" most:""`: {Valid: "word", Enum: []string{"a"}},
	} {
		if got := strictyaml.RulesOf(tag); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", tag, got, want)
		}
	}
}
