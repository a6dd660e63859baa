package strictyaml_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"cbproxy/internal/strictyaml"
)

func TestFlattenRejectsKeys(t *testing.T) {
	for text, want := range map[string]string{
		"name: a\ncount: 1\nname: b":               "f.yaml:3:1: name: duplicate key, first given at 1:1",
		"name: a\n\"name\": b":                     "f.yaml:2:1: name: duplicate key, first given at 1:1",
		"nested: {first_value: 1, first_value: 1}": "f.yaml:1:26: nested.first_value: duplicate key, first given at 1:10",
		"extra: {a: 1, a: 2}":                      "f.yaml:1:15: extra.a: duplicate key, first given at 1:9",
		"nested: {[a]: 1}":                         "f.yaml:1:10: nested: a key must be plain text, got a list",
		"extra: {~: 1}":                            "f.yaml:1:9: extra: a key must be plain text, got null",
		"extra: {!!str a: 1}":                      "f.yaml:1:9: extra: a key must be plain text, got a tag",
		"name: &a x\nextra: {*a : 1}":              "f.yaml:2:9: extra: a key must be plain text, got an alias",
		"name: !!str x":                            "f.yaml:1:1: name: must have no tag, got !!str",
		"nested: !mine {first_value: 1}":           "f.yaml:1:1: nested: must have no tag, got !mine",
		"words: [!!binary aGVsbG8=]":               "f.yaml:1:9: words[0]: must have no tag, got !!binary",
	} {
		checkFaults(t, text, nil, want)
	}
}

// The first value of a duplicate key is used.
func TestFlattenKeepsFirstDuplicate(t *testing.T) {
	var d document
	if faults := decode(t, "name: a\nname: b\nextra: {x: 1, x: 2}", nil, &d); strings.Count(faults, "duplicate key") != 2 || d.Name != "a" || !reflect.DeepEqual(d.Extra, map[string]any{"x": int64(1)}) {
		t.Errorf("got %+v, %s", d, faults)
	}
}

// Numbers and other scalars as keys are text.
func TestFlattenKeepsKeysAsText(t *testing.T) {
	var d document
	if faults := decode(t, "extra: {010: a, 1e3: b, on: c, true: d}", nil, &d); faults != "" {
		t.Fatal(faults)
	}
	if want := map[string]any{"010": "a", "1e3": "b", "on": "c", "true": "d"}; !reflect.DeepEqual(d.Extra, want) {
		t.Errorf("got %v, want %v", d.Extra, want)
	}
}

func TestFlattenResolvesAliasesAndMerges(t *testing.T) {
	for text, want := range map[string]nested{
		"extra: &a {first_value: 1, second_value: 2}\nnested: *a":                                    {1, 2},
		"extra: &a {first_value: 1, second_value: 2}\nnested: {<<: *a}":                              {1, 2},
		"extra: &a {first_value: 1, second_value: 2}\nnested: {<<: *a, second_value: 3}":             {1, 3},
		"extra: &a {first_value: 1, second_value: 2}\nnested: {second_value: 3, <<: *a}":             {1, 3},
		"extra: [&a {first_value: 1}, &b {first_value: 4, second_value: 5}]\nnested: {<<: [*a, *b]}": {1, 5},
		"nested: {<<: {first_value: 6}}":                                                             {6, 0},
		"extra: [&a {first_value: 1}, &b {<<: *a, second_value: 5}]\nnested: {<<: *b}":               {1, 5},
		"extra: &a 7\nnested: {first_value: *a, second_value: *a}":                                   {7, 7},
	} {
		var d document
		if faults := decode(t, text, nil, &d); faults != "" || d.Nested != want {
			t.Errorf("%s\ngot %+v, want %+v; faults %s", text, d.Nested, want, faults)
		}
	}
	for text, want := range map[string]string{
		"nested: {<<: !tag {first_value: 1}}":          "f.yaml:1:10: nested.<<: must have no tag, got !tag",
		"nested: {<<: [!tag {first_value: 1}]}":        "f.yaml:1:15: nested.<<[0]: must have no tag, got !tag",
		"nested: {<<: [[other, 1]]}":                   "f.yaml:1:10: nested.<<: must be a mapping or a list of mappings, got a list",
		"nested: {<<: 5}":                              "f.yaml:1:10: nested.<<: must be a mapping or a list of mappings, got 5",
		"nested: {<<: [{first_value: 1}, 5]}":          "f.yaml:1:10: nested.<<: must be a mapping or a list of mappings, got 5",
		"nested: {<<: {}, <<: {}}":                     "f.yaml:1:18: nested.<<: duplicate key, first given at 1:10",
		"extra: &a {first_value: x}\nnested: {<<: *a}": "f.yaml:1:12: nested.first_value: must be a whole number in plain digits (no leading zeros, exponent, 0x or quotes), got x",
		"nested: {\"<<\": {first_value: 1}}":           "f.yaml:1:10: nested.<<: unknown key, must be one of first_value, second_value",
	} {
		checkFaults(t, text, nil, want)
	}
}

func TestFlattenExpandsReferences(t *testing.T) {
	environ := map[string]string{"WORD": "abc", "NUMBER": "7", "FLAG": "true", "NULL": "null", "EMPTY": "", "NESTED": "${WORD}", "LIST": "[a]"}
	for text, check := range map[string]func(document) bool{
		"name: ${WORD}":                                   func(d document) bool { return d.Name == "abc" },
		"name: a-${WORD}-${NUMBER}":                       func(d document) bool { return d.Name == "a-abc-7" },
		"name: ${MISSING:-default value}":                 func(d document) bool { return d.Name == "default value" },
		"name: ${EMPTY:-default}":                         func(d document) bool { return d.Name == "default" },
		"name: ${MISSING:-}":                              func(d document) bool { return d.Name == "" },
		"name: ${EMPTY}":                                  func(d document) bool { return d.Name == "" },
		"name: ${WORD:-default}":                          func(d document) bool { return d.Name == "abc" },
		"name: $${WORD} costs 5$":                         func(d document) bool { return d.Name == "${WORD} costs 5$" },
		"name: ${NESTED}":                                 func(d document) bool { return d.Name == "${WORD}" },
		"name: ${NULL}":                                   func(d document) bool { return d.Name == "null" },
		"name: ${FLAG}":                                   func(d document) bool { return d.Name == "true" },
		"name: $WORD":                                     func(d document) bool { return d.Name == "$WORD" },
		"name: ${LIST}":                                   func(d document) bool { return d.Name == "[a]" },
		"count: ${NUMBER}":                                func(d document) bool { return d.Count == 7 },
		"count: \"${NUMBER}\"":                            func(d document) bool { return d.Count == 7 },
		"enabled: \"${FLAG}\"":                            func(d document) bool { return d.Enabled },
		"wait: ${NUMBER}m":                                func(d document) bool { return d.Wait.Minutes() == 7 },
		"words: [\"${WORD}\", x]":                         func(d document) bool { return reflect.DeepEqual(d.Words, []string{"abc", "x"}) },
		"extra:\n- ${NUMBER}\n- \"${NUMBER}\"\n- ${NULL}": func(d document) bool { return reflect.DeepEqual(d.Extra, []any{int64(7), "7", "null"}) },
		"nested: &a\n  first_value: ${NUMBER}\nextra: *a": func(d document) bool {
			return d.Nested.First == 7 && reflect.DeepEqual(d.Extra, map[string]any{"first_value": int64(7)})
		},
	} {
		var d document
		if faults := decode(t, text, environ, &d); faults != "" || !check(d) {
			t.Errorf("%s: got %+v, %s", text, d, faults)
		}
	}
}

func TestFlattenReportsInvalidReferences(t *testing.T) {
	const form = "must be ${NAME} or ${NAME:-default} (write $${ for a plain ${), got "
	for text, want := range map[string]string{
		"name: ${MISSING}":                      "f.yaml:1:1: name: ${MISSING} is not set and has no default",
		"words: [a, \"${MISSING}\"]":            "f.yaml:1:12: words[1]: ${MISSING} is not set and has no default",
		"name: ${}":                             "f.yaml:1:1: name: " + form + "${}",
		"name: ${WORD":                          "f.yaml:1:1: name: " + form + "${WORD",
		"name: ${WORD-x}":                       "f.yaml:1:1: name: " + form + "${WORD-x}",
		"name: ${1WORD}":                        "f.yaml:1:1: name: " + form + "${1WORD}",
		"name: ${WORD:-${OTHER}}":               "f.yaml:1:1: name: " + form + "${WORD:-${OTHER}}",
		"name: http://user:${bad password@host": "f.yaml:1:1: name: " + form + "another form",
		"name: http://user:secret@host/${}":     "f.yaml:1:1: name: " + form + "another form",
		"name: ${x@y":                           "f.yaml:1:1: name: " + form + "another form",
		"count: ${TEXT}":                        "f.yaml:1:1: count: must be a whole number in plain digits (no leading zeros, exponent, 0x or quotes), got text",
		"count: ${OCTAL}":                       "f.yaml:1:1: count: must be a whole number in plain digits (no leading zeros, exponent, 0x or quotes), got 010",
	} {
		checkFaults(t, text, map[string]string{"TEXT": "text", "OCTAL": "010"}, want)
	}
}

func TestFlattenLimitsTrees(t *testing.T) {
	nest := func(depth int) string { // mappings and lists at the given depth
		return "extra: " + strings.Repeat("[", depth) + strings.Repeat("]", depth)
	}
	checkFaults(t, nest(64), nil)
	if got := decode(t, nest(65), nil, new(document)); !strings.HasSuffix(got, "must be nested at most 64 deep") || strings.Count(got, "\n") != 0 {
		t.Errorf("got %s", got)
	}

	if got := decode(t, "extra: &a {b: *a}", nil, new(document)); !strings.HasSuffix(got, "must be nested at most 64 deep") || strings.Count(got, "\n") != 0 {
		t.Errorf("a mapping that contains itself: got %s", got)
	}

	merge := func(depth int) string { // the mapping, the merged mapping, and lists
		return "extra: {<<: {a: " + strings.Repeat("[", depth-2) + strings.Repeat("]", depth-2) + "}}"
	}
	checkFaults(t, merge(64), nil)
	if got := decode(t, merge(65), nil, new(document)); !strings.HasSuffix(got, "must be nested at most 64 deep") {
		t.Errorf("got %s", got)
	}

	list := func(values int) string { // the document, the list and its items
		return "extra: [" + strings.Repeat("x,", values-2) + "]"
	}
	checkFaults(t, list(100_000), nil)
	if got := decode(t, list(100_001), nil, new(document)); !strings.HasSuffix(got, "must have at most 100000 values after aliases are resolved") {
		t.Errorf("got %s", got)
	}

	// Each line has ten times the values of the previous one.
	var b strings.Builder
	b.WriteString("extra:\n  - &a0 [x]\n")
	for i := range 9 {
		fmt.Fprintf(&b, "  - &a%d [%s]\n", i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 10))
	}
	if got := decode(t, b.String(), nil, new(document)); !strings.HasSuffix(got, "must have at most 100000 values after aliases are resolved") || strings.Count(got, "\n") != 0 {
		t.Errorf("got %s", got)
	}

	environ := map[string]string{"LONG": strings.Repeat("x", 1<<20)}
	checkFaults(t, "extra: ["+strings.Repeat("\"${LONG}\", ", 4)+"]", environ)
	checkFaults(t, "extra: ["+strings.Repeat("\"${LONG}\", ", 5)+"]", environ,
		"f.yaml:1:53: extra[4]: must be smaller: all ${} references together expand to more than 4194304 bytes")
	checkFaults(t, "name: "+strings.Repeat("${LONG}", 4), environ)
	checkFaults(t, "name: "+strings.Repeat("${LONG}", 5), environ, "f.yaml:1:1: name: must be shorter: ${} expands to too much text")
}

// Flatten reports whether the tree is complete, and which scalars contained a reference.
func TestFlattenResult(t *testing.T) {
	faults := &strictyaml.Collector{}
	root := strictyaml.Parse([]byte("a: ${X:-1}\nb: 1\nc: $${X}\n"), faults)
	tree, ok := strictyaml.Flatten(root, nil, faults)
	if !ok || faults.Err() != nil {
		t.Fatalf("ok %v, %v", ok, faults.Err())
	}
	for key, want := range map[string]bool{"a": true, "b": false, "c": true} {
		if n, _ := strictyaml.Lookup(tree.Root, key); tree.Expanded[n] != want {
			t.Errorf("%s: expanded %v, want %v", key, tree.Expanded[n], want)
		}
	}
	for _, text := range []string{
		"a: " + strings.Repeat("[", 70) + strings.Repeat("]", 70),
		"a: [" + strings.Repeat("\"${LONG}\", ", 5) + "]",
	} {
		root = strictyaml.Parse([]byte(text), faults)
		if _, ok := strictyaml.Flatten(root, map[string]string{"LONG": strings.Repeat("x", 1<<20)}, faults); ok {
			t.Errorf("an incomplete tree is reported as complete: %s", text)
		}
	}
}
