package strictyaml

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Struct decodes a mapping into the struct v, key by key. For a key without a field it calls other; if
// other is nil, the key is a fault. Fields of pointers and of maps of pointers are skipped: the
// caller decodes them, as it knows their defaults.
func (d *Decoder) Struct(n *yaml.Node, at Place, v reflect.Value, other func(key, value *yaml.Node, at Place)) {
	if n.Kind == 0 {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.Faults.Add(at, "%s, got %s", WantMapping, Show(n))
		return
	}
	fields := FieldsOf(v.Type())
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		here := at.Key(key)
		switch f, ok := fields[key.Value]; {
		case !ok && other != nil:
			other(key, value, here)
		case !ok:
			d.UnknownKey(here, key.Value, slices.Sorted(maps.Keys(fields)))
		case decodedByCaller(f.Type):
		default:
			d.Value(value, here, v.FieldByIndex(f.Index), RulesOf(f.Tag))
		}
	}
}

func decodedByCaller(t reflect.Type) bool {
	return t.Kind() == reflect.Pointer || t.Kind() == reflect.Map && t.Elem().Kind() == reflect.Pointer
}

// FieldsOf returns the fields of a struct by the names of their keys.
func FieldsOf(t reflect.Type) map[string]reflect.StructField {
	fields := make(map[string]reflect.StructField, t.NumField())
	for i := range t.NumField() {
		if name := KeyName(t.Field(i)); name != "" {
			fields[name] = t.Field(i)
		}
	}
	return fields
}

// KeyName returns the name of a field's key, "" if it has none. As in yaml.v3, the key of a field
// without a tag is the field's name in lower case.
func KeyName(f reflect.StructField) string {
	tag, tagged := f.Tag.Lookup("yaml")
	name, _, _ := strings.Cut(tag, ",")
	switch {
	case !f.IsExported() || name == "-":
		return ""
	case !tagged:
		return strings.ToLower(f.Name)
	}
	return name
}

// UnknownKey adds the fault of a key that is not in known. It suggests the most similar known key.
func (d *Decoder) UnknownKey(at Place, key string, known []string) {
	if d.Faults.Full() {
		return
	}
	if near := nearest(key, known); near != "" {
		d.Faults.Add(at, "unknown key, did you mean %q?", near)
		return
	}
	d.Faults.Add(at, "unknown key, must be one of %s", strings.Join(known, ", "))
}

// nearest returns the candidate with the smallest edit distance from s, "" if none is similar.
func nearest(s string, candidates []string) string {
	if len(s) > MaxNameRunes {
		return ""
	}
	best, least := "", len(s)/3+2
	for _, c := range candidates {
		if edits := editDistance(strings.ToLower(strings.ReplaceAll(s, "-", "_")), c); edits < least {
			best, least = c, edits
		}
	}
	return best
}

// editDistance returns the optimal string alignment distance of a and b: the number of bytes to
// insert, delete, replace or transpose.
func editDistance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
