package strictyaml_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"cbproxy/internal/strictyaml"
)

func TestDecodeSetsEveryKind(t *testing.T) {
	const text = `
name: some text
enabled: true
count: 10
total: -9223372036854775808
ratio: 0.5
wait: 1m30s
delay: 0
limit: 64KiB
mode: safe
words: [one, two]
weights: {a: 1, b: 2.5}
extra: {number: 1, float: 1.50, big: 99999999999999999999, text: "1", none: null, flag: True, list: [1, {}]}
nested: {first_value: 1}
codes: [A, B]
plain: 12
`
	want := document{
		Name: "some text", Enabled: true, Count: 10, Total: -9223372036854775808, Ratio: 0.5, Wait: 90 * time.Second, Limit: 64 << 10, Mode: "safe",
		Words: []string{"one", "two"}, Weights: map[string]float64{"a": 1, "b": 2.5}, Nested: nested{First: 1, Second: 8}, Codes: codes{"A", "B"}, Plain: "12",
		Extra: map[string]any{
			"number": int64(1), "float": json.Number("1.50"), "big": json.Number("99999999999999999999"), "text": "1",
			"none": nil, "flag": true, "list": []any{int64(1), map[string]any{}},
		},
	}
	got := document{Nested: nested{First: 7, Second: 8}, Delay: time.Second}
	if faults := decode(t, text, nil, &got); faults != "" {
		t.Fatal(faults)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// The decoder continues after a fault. Values with a fault keep what they had before.
func TestDecodeReportsAllFaults(t *testing.T) {
	const text = `
name: [a]
enabled: 1
count: 11
wait: never
words: [one, two words]
weights: {a: -1, b: x}
nested:
  first_value: 5
  second_value: 0.5
codes: [A, b, {}]
`
	before := document{
		Name: "kept", Count: 1, Wait: time.Second, Words: []string{"kept"}, Weights: map[string]float64{"kept": 1},
		Nested: nested{First: 1, Second: 2}, Codes: codes{"KEPT"},
	}
	got := before
	const want = `f.yaml:2:1: name: must be text, got a list
f.yaml:3:1: enabled: must be true or false, got 1
f.yaml:4:1: count: must be from 1 to 10, got 11
f.yaml:5:1: wait: must be a duration such as 30s or 1m30s, or a number of seconds such as 30 or 0.5, got never
f.yaml:6:14: words[1]: must be a single word, got two words
f.yaml:7:11: weights.a: must be 0 or more, got -1
f.yaml:7:18: weights.b: must be a number in plain digits (no leading zeros, exponent or quotes), got x
f.yaml:10:3: nested.second_value: must be a whole number in plain digits (no leading zeros, exponent, 0x or quotes), got 0.5
f.yaml:11:12: codes[1]: must be in upper case, got b
f.yaml:11:15: codes[2]: must be a code, got a mapping`
	if faults := decode(t, text, nil, &got); faults != want {
		t.Errorf("got\n%s\nwant\n%s", faults, want)
	}
	before.Nested.First = 5 // the only valid value
	if !reflect.DeepEqual(got, before) {
		t.Errorf("got  %+v\nwant %+v", got, before)
	}
}

// A setting is a value or automatic, and keeps what it was before a fault.
func TestDecodeAutomaticSettings(t *testing.T) {
	kept := nestedSettings{strictyaml.OrAuto[int]{Value: 3}, strictyaml.OrAuto[time.Duration]{Auto: true}}
	for text, want := range map[string]nestedSettings{
		"limits: {calls: auto, pause: 2s}":  {strictyaml.OrAuto[int]{Auto: true}, strictyaml.OrAuto[time.Duration]{Value: 2 * time.Second}},
		`limits: {calls: "auto", pause: 1}`: {strictyaml.OrAuto[int]{Auto: true}, strictyaml.OrAuto[time.Duration]{Value: time.Second}},
		"limits: {calls: 7}":                {strictyaml.OrAuto[int]{Value: 7}, kept.Pause},
		"limits: {calls: 0, pause: 0}":      kept,
		"limits: {calls: [auto]}":           kept,
	} {
		d := document{Limits: kept}
		if decode(t, text, nil, &d); d.Limits != want {
			t.Errorf("%s: got %+v, want %+v", text, d.Limits, want)
		}
	}
}

func TestDecodeRejectsValuesOfOtherKinds(t *testing.T) {
	for text, want := range map[string]string{
		"words: one":          "f.yaml:1:1: words: must be a list, got one",
		"words: [one, [two]]": "f.yaml:1:14: words[1]: must be text, got a list",
		"weights: [1]":        "f.yaml:1:1: weights: must be a mapping, got a list",
		"nested: 5":           "f.yaml:1:1: nested: must be a mapping, got 5",
		"codes: {a: b}":       "f.yaml:1:1: codes: must be a code or a list of codes, got a mapping",
		"codes: null":         "f.yaml:1:1: codes: must be a code, got null",
		"codes: [!tag a]":     "f.yaml:1:9: codes[0]: must have no tag, got !tag",
		"codes: b":            "f.yaml:1:1: codes: must be in upper case, got b",
		"mode: slow":          "f.yaml:1:1: mode: must be one of fast, safe, got slow",
		"words: [a, b, c]":    "f.yaml:1:1: words: must have at most 2 items, got 3",
		"wait: 0":             "f.yaml:1:1: wait: must be positive, got 0",
		"wait: -1s":           "f.yaml:1:1: wait: must be positive, got -1s",
		"delay: -1s":          "f.yaml:1:1: delay: must be 0 or more, got -1s",
		"limit: 1023":         "f.yaml:1:1: limit: must be from 1KiB to 1MiB, got 1023",
		"limit: 1048577":      "f.yaml:1:1: limit: must be from 1KiB to 1MiB, got 1048577",
		"extra: {a: 0x10}":    "f.yaml:1:9: extra.a: must be a number in JSON syntax, or text in quotes, got 0x10",
		"extra: [1, .inf]":    "f.yaml:1:12: extra[1]: must be a number in JSON syntax, or text in quotes, got .inf",
		"name: ~":             "f.yaml:1:1: name: must be text, got null",

		"limits: {calls: Auto}": "f.yaml:1:10: limits.calls: must be a whole number in plain digits (no leading zeros, exponent, 0x or quotes), or auto, got Auto",
		"limits: {calls: 11}":   "f.yaml:1:10: limits.calls: must be from 1 to 10, or auto, got 11",
		"limits: {pause: 0s}":   "f.yaml:1:10: limits.pause: must be positive, or auto, got 0s",
		"limits: {pause: []}":   "f.yaml:1:10: limits.pause: must be a duration such as 30s or 1m30s, or a number of seconds such as 30 or 0.5, or auto, got a list",
	} {
		checkFaults(t, text, nil, want)
	}
}

// A value of any type is replaced as a whole, and only if all of it is valid.
func TestDecodeAnything(t *testing.T) {
	for text, want := range map[string]any{
		"extra: [true, True, TRUE, false, False, FALSE]": []any{true, true, true, false, false, false},
		"extra: {a: 0x10, b: 1}":                         "kept",
		"extra: {a: 1, b: 0x10}":                         "kept",
		"extra: [0x10, 1]":                               "kept",
		"extra: [1, 0x10]":                               "kept",
		"extra: [[0x10], 1]":                             "kept",
		"extra: null":                                    nil,
		"extra: 010":                                     "kept",
		"extra: -0":                                      int64(0),
		"extra: 1e3":                                     json.Number("1e3"),
	} {
		d := document{Extra: "kept"}
		if faults := decode(t, text, nil, &d); !reflect.DeepEqual(d.Extra, want) || (faults != "") != (want == "kept") {
			t.Errorf("%s: got %#v, %s, want %#v", text, d.Extra, faults, want)
		}
	}
}

// Value reports whether it has set the value, and leaves an invalid one unchanged.
func TestValue(t *testing.T) {
	for _, c := range []struct {
		text  string
		v     any // a pointer to the previous value
		rules strictyaml.Rules
		set   bool
		want  any
	}{
		{"a: 5", ptr(1), strictyaml.Rules{}, true, 5},
		{"a: x", ptr(1), strictyaml.Rules{}, false, 1},
		{"a: 5", ptr(1), strictyaml.Rules{Valid: "..4"}, false, 1},
		{"a: 4", ptr(1), strictyaml.Rules{Valid: "..4"}, true, 4},
		{"a: x", ptr("kept"), strictyaml.Rules{Enum: []string{"y"}}, false, "kept"},
		{"a: [x]", ptr([]string{"kept"}), strictyaml.Rules{}, true, []string{"x"}},
		{"a: []", ptr([]string{"kept"}), strictyaml.Rules{MaxItems: 1}, true, []string{}},
		{"a: x", ptr([]string{"kept"}), strictyaml.Rules{}, false, []string{"kept"}},
		{"a: [x, y]", ptr([]string{"kept"}), strictyaml.Rules{MaxItems: 1}, false, []string{"kept"}},
		{"a: [[], y]", ptr([]string{"kept"}), strictyaml.Rules{}, false, []string{"kept"}},
		{"a: [y, []]", ptr([]string{"kept"}), strictyaml.Rules{}, false, []string{"kept"}},
		{"a: {b: 1}", ptr(map[string]int{"kept": 1}), strictyaml.Rules{}, true, map[string]int{"b": 1}},
		{"a: 1", ptr(map[string]int{"kept": 1}), strictyaml.Rules{}, false, map[string]int{"kept": 1}},
		{"a: {b: x, c: 1}", ptr(map[string]int{"kept": 1}), strictyaml.Rules{}, false, map[string]int{"kept": 1}},
		{"a: {c: 1, b: x}", ptr(map[string]int{"kept": 1}), strictyaml.Rules{}, false, map[string]int{"kept": 1}},
		{"a: [A]", ptr(codes{"KEPT"}), strictyaml.Rules{}, true, codes{"A"}},
		{"a: b", ptr(codes{"KEPT"}), strictyaml.Rules{}, false, codes{"KEPT"}},
		{"a: {first_value: 1, second_value: x}", ptr(nested{7, 8}), strictyaml.Rules{}, true, nested{1, 8}}, // each field by itself
		{"a: !tag 5", ptr(1), strictyaml.Rules{}, false, 1},
		{"a: [!tag A]", ptr(codes{"KEPT"}), strictyaml.Rules{}, false, codes{"KEPT"}},
	} {
		faults := new(strictyaml.Collector)
		tree, _ := strictyaml.Flatten(strictyaml.Parse([]byte(c.text), faults), nil, faults)
		n, key := strictyaml.Lookup(tree.Root, "a")
		v := reflect.ValueOf(c.v).Elem()
		d := strictyaml.Decoder{Faults: faults}
		set := d.Value(n, strictyaml.Place{}.Key(key), v, c.rules)
		if set != c.set || !reflect.DeepEqual(v.Interface(), c.want) {
			t.Errorf("%s: got %v, %v, want %v, %v", c.text, set, v, c.set, c.want)
		}
		if v.Kind() != reflect.Struct && (faults.Err() == nil) != set {
			t.Errorf("%s: set %v, faults %v", c.text, set, faults.Err())
		}
	}
}

func ptr[T any](v T) *T { return &v }

func TestDecodeRejectsUnsupportedTypes(t *testing.T) {
	faults := &strictyaml.Collector{File: "f.yaml"}
	root := strictyaml.Parse([]byte("size: 1\n"), faults)
	var v struct {
		Size uint8 `yaml:"size"`
	}
	(&strictyaml.Decoder{Faults: faults}).Struct(root, strictyaml.Place{}, reflect.ValueOf(&v).Elem(), nil)
	if got, want := message(t, faults.Err()), "f.yaml:1:1: size: cannot be read into a uint8, got 1"; got != want || v.Size != 0 {
		t.Errorf("got %q, %d, want %q", got, v.Size, want)
	}
}

// A Decoder without a Collector discards faults, as values that are decoded a second time have been reported before.
func TestDecodeWithoutCollector(t *testing.T) {
	root := strictyaml.Parse([]byte("count: x\nunknown: 1\nname: a\n"), nil)
	var v document
	new(strictyaml.Decoder).Struct(root, strictyaml.Place{}, reflect.ValueOf(&v).Elem(), nil)
	if v.Name != "a" || v.Count != 0 {
		t.Errorf("got %+v", v)
	}
}
