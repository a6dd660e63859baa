package fallbacks

import (
	"encoding/json"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

func toJSON(t testing.TB, text string) (JSON, error) {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil || len(doc.Content) == 0 {
		t.Fatalf("not a YAML document: %v", err)
	}
	var j JSON
	err := j.UnmarshalYAML(doc.Content[0])
	return j, err
}

func TestJSONFromYAML(t *testing.T) {
	for yamlText, want := range map[string]string{
		"{z: 1, a: 2, m: {y: 1, b: 2}}":        `{"z":1,"a":2,"m":{"y":1,"b":2}}`, // the order of keys is kept
		"[1, 0.0, -1.50, 1e3, 0x1F, 0o17]":     `[1,0.0,-1.50,1e3,31,15]`,
		"[true, false, null, ~, yes, on]":      `[true,false,null,null,"yes","on"]`,
		`["<&>", "a\u2028b", "quo\"te", ""]`:   `["<&>","a\u2028b","quo\"te",""]`,
		"[2026-01-02, 12:30:45, '010', 1_000]": `["2026-01-02","12:30:45","010",1000]`,
		"{1: a, true: b}":                      `{"1":"a","true":"b"}`,
		"just text":                            `"just text"`,
		"{}":                                   `{}`,
		"[]":                                   `[]`,
		"123456789012345678901234567890":       `123456789012345678901234567890`,
	} {
		got, err := toJSON(t, yamlText)
		if err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v; want %s", yamlText, got, err, want)
		}
		if !json.Valid(got) {
			t.Errorf("%s: %s is not JSON", yamlText, got)
		}
	}
}

func TestJSONErrorsHavePositions(t *testing.T) {
	for yamlText, want := range map[string]string{
		"{a: 1, b: .nan}": "a number that JSON can hold",
		"[.inf]":          "a number that JSON can hold",
		"{a: 010}":        "without leading zeros",
		"{? [a, b] : c}":  "must be a scalar",
	} {
		_, err := toJSON(t, yamlText)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", yamlText, err, want)
			continue
		}
		positioned, ok := err.(interface{ Position() (int, int) })
		if !ok {
			t.Fatalf("%s: the error has no position", yamlText)
		}
		if line, column := positioned.Position(); line != 1 || column < 2 {
			t.Errorf("%s: at %d:%d", yamlText, line, column)
		}
	}
}

func FuzzJSONFromYAML(f *testing.F) {
	for _, seed := range []string{"{a: [1, .5, x]}", "010", "1e400", "!!binary aGk=", "- <<: {a: 1}", "\"\\u0000\"", "+1", "-.5", "0b11", "1__0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var doc yaml.Node
		if yaml.Unmarshal([]byte(text), &doc) != nil || len(doc.Content) == 0 || strings.ContainsAny(text, "*&") {
			return // aliases are resolved by the decoder
		}
		var j JSON
		if err := j.UnmarshalYAML(doc.Content[0]); err == nil && !json.Valid(j) {
			t.Errorf("%q became %s", text, j)
		}
	})
}
