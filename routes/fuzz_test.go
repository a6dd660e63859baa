package routes_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"unicode"

	"cbproxy/routes"
)

func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.yaml", "testdata/bad/*.yaml"} {
		for _, file := range files(f, pattern) {
			f.Add(read(f, file))
		}
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		c, err := loader().Parse(content)
		if err != nil {
			var faults routes.Faults
			if !errors.As(err, &faults) || len(faults) == 0 {
				t.Fatalf("got %T %v, want Faults", err, err)
			}
			for _, fault := range faults {
				if fault.Line < 1 || fault.Column < 1 || fault.Path == "" || fault.Message == "" {
					t.Errorf("got %#v", fault)
				}
			}
			return
		}
		effective, err := json.Marshal(c)
		if err != nil || !json.Valid(effective) {
			t.Errorf("got %s, %v, want JSON", effective, err)
		}
		// What a configuration amounts to is a configuration, and amounts to the same: YAML
		// is a superset of JSON, but for ${} and for characters that only an escape can write in YAML.
		if bytes.Contains(effective, []byte("${")) || bytes.ContainsFunc(effective, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return
		}
		again, err := loader().Parse(effective)
		if err != nil {
			t.Fatalf("the effective configuration has faults:\n%v\n%s", err, effective)
		}
		if twice, err := json.Marshal(again); err != nil || string(twice) != string(effective) {
			t.Errorf("got  %s, %v\nwant %s", twice, err, effective)
		}
	})
}
