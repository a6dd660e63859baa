package routes

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cbproxy/internal/expression"
	"cbproxy/internal/strictyaml"
	"cbproxy/internal/textform"

	"github.com/google/jsonschema-go/jsonschema"
)

// schemaGenerator generates a JSON Schema from the configuration's types.
type schemaGenerator struct {
	docs       map[string]string // package.Type and package.Type.Field -> comment
	defs       map[string]*jsonschema.Schema
	defaults   map[string]any // name in defs -> what its defaults are of
	strategies map[string]any
	algorithms map[string]any // nil: without options
}

// GenerateSchema returns the schema of Config as a file. strategies and algorithms have a pointer to the options of each
// strategy, whose comments are in the Go files sources.
func GenerateSchema(t *testing.T, strategies, algorithms map[string]any, sources ...string) []byte {
	t.Helper()
	g := &schemaGenerator{
		docs:       comments(t, append([]string{"schema.go"}, sources...)),
		defs:       map[string]*jsonschema.Schema{},
		defaults:   map[string]any{},
		strategies: strategies,
		algorithms: algorithms,
	}
	root := g.object(reflect.ValueOf(defaultConfig()).Elem())
	root.Schema = "https://json-schema.org/draft/2020-12/schema"
	root.Title = "cbproxy configuration"
	root.Description = "Configuration of cbproxy. `cbproxy check` finds more than this schema can say."
	root.Required = []string{"routes"}
	root.Properties["routes"].MinProperties = jsonschema.Ptr(1)
	root.Defs = g.defs
	content, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(content, '\n')
}

// comments returns the documentation of the types in files and of their fields.
func comments(t *testing.T, files []string) map[string]string {
	t.Helper()
	docs := map[string]string{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		in := parsed.Name.Name + "."
		for _, decl := range parsed.Decls {
			general, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range general.Specs {
				named, ok := spec.(*ast.TypeSpec)
				if !ok {
					continue
				}
				docs[in+named.Name.Name] = oneLineDoc(general.Doc)
				if fields, ok := named.Type.(*ast.StructType); ok {
					for _, field := range fields.Fields.List {
						for _, name := range field.Names {
							docs[in+named.Name.Name+"."+name.Name] = oneLineDoc(field.Doc)
						}
					}
				}
			}
		}
	}
	return docs
}

func oneLineDoc(doc *ast.CommentGroup) string { return strings.Join(strings.Fields(doc.Text()), " ") }

// typeName returns a type's name with its package's.
func typeName(t reflect.Type) string { return path.Base(t.PkgPath()) + "." + t.Name() }

// object returns the schema of a struct, with v's values as the defaults.
func (g *schemaGenerator) object(v reflect.Value) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "object", Properties: map[string]*jsonschema.Schema{}, AdditionalProperties: never()}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key := strictyaml.KeyName(f)
		if key == "" {
			continue
		}
		property := g.property(f, v.Field(i))
		property.Description = g.docs[typeName(v.Type())+"."+f.Name]
		s.Properties[key] = property
		s.PropertyOrder = append(s.PropertyOrder, key)
	}
	switch v.Type() {
	case reflect.TypeFor[Fallback]():
		g.addOptions(s, "strategy", g.strategies)
		s.Properties["try"].Items = text(strictyaml.Rules{Enum: slices.Sorted(maps.Keys(g.strategies))})
		s.Properties["try"].MinItems = jsonschema.Ptr(1)
	case reflect.TypeFor[Breaker]():
		g.addOptions(s, "algorithm", g.algorithms)
		byName := s.Properties["algorithm"]
		s.Properties["algorithm"] = text(strictyaml.Rules{Enum: slices.Sorted(maps.Keys(g.algorithms))})
		s.Properties["algorithm"].Description, s.Properties["algorithm"].Default = byName.Description, byName.Default
	}
	return s
}

// addOptions adds the options of the strategies or algorithms to the schema of the mapping that has them.
func (g *schemaGenerator) addOptions(s *jsonschema.Schema, kind string, all map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if all[name] == nil {
			continue
		}
		s.Properties[name] = g.object(reflect.ValueOf(all[name]).Elem())
		s.Properties[name].Description = "Options of the " + kind + " " + name + "."
		s.PropertyOrder = append(s.PropertyOrder, name)
	}
}

// property returns the schema of a field, with v as its default.
func (g *schemaGenerator) property(f reflect.StructField, v reflect.Value) *jsonschema.Schema {
	switch inner, isNamed := nested(f, v); {
	case isNamed:
		return g.named(inner)
	case inner.IsValid():
		return g.ref(inner)
	}
	s := g.value(f.Type, strictyaml.RulesOf(f.Tag))
	s.Default = defaultOf(v)
	return s
}

// nested returns the struct of a field with its defaults, the zero Value if the field has none. isNamed
// reports that the field is a map from names to such structs.
func nested(f reflect.StructField, v reflect.Value) (inner reflect.Value, isNamed bool) {
	switch f.Type {
	case reflect.TypeFor[*Route]():
		return reflect.ValueOf(defaultRoute()).Elem(), false
	case reflect.TypeFor[map[string]*Route]():
		return reflect.ValueOf(defaultRoute()).Elem(), true
	case reflect.TypeFor[map[string]*Fallback]():
		return reflect.ValueOf(newFallback()).Elem(), true
	}
	if _, isSetting := strictyaml.ValueType(f.Type); isSetting {
		return reflect.Value{}, false
	}
	if v.Kind() == reflect.Struct && !reflect.PointerTo(f.Type).Implements(strictyaml.UnmarshalerType) {
		return v, false
	}
	return reflect.Value{}, false
}

// defaultOf returns a default as JSON, nothing if it is empty.
func defaultOf(v reflect.Value) json.RawMessage {
	if _, isSetting := strictyaml.ValueType(v.Type()); !isSetting && v.IsZero() && slices.Contains([]reflect.Kind{reflect.Slice, reflect.Map, reflect.Struct, reflect.Interface}, v.Kind()) {
		return nil
	}
	var out bytes.Buffer
	if err := writeValue(&out, v); err != nil {
		return nil
	}
	return out.Bytes()
}

// ref returns a reference to the schema of a struct, or the schema itself if the reference is to
// the same struct with other defaults.
func (g *schemaGenerator) ref(v reflect.Value) *jsonschema.Schema {
	name := strings.TrimPrefix(typeName(v.Type()), "routes.")
	if g.defs[name] == nil {
		g.defs[name] = &jsonschema.Schema{} // keeps the place
		g.defaults[name] = v.Interface()
		*g.defs[name] = *g.object(v)
		g.defs[name].Description = g.docs[typeName(v.Type())]
	}
	if !reflect.DeepEqual(g.defaults[name], v.Interface()) {
		return g.object(v)
	}
	return &jsonschema.Schema{Ref: "#/$defs/" + name}
}

// named returns the schema of a mapping from names to a struct.
func (g *schemaGenerator) named(v reflect.Value) *jsonschema.Schema {
	return &jsonschema.Schema{Type: "object", AdditionalProperties: g.ref(v), PropertyNames: &jsonschema.Schema{Pattern: namePattern.String()}}
}

func (g *schemaGenerator) value(t reflect.Type, r strictyaml.Rules) *jsonschema.Schema {
	if value, ok := strictyaml.ValueType(t); ok {
		s := g.value(value, r)
		s.AnyOf = append(s.AnyOf, &jsonschema.Schema{Enum: []any{"auto"}})
		return s
	}
	switch t {
	case strictyaml.DurationType:
		return either(number("number", r, time.Second.Nanoseconds()), matching(strictyaml.DurationPattern.String(), strictyaml.FloatPattern.String()))
	case strictyaml.SizeType:
		return either(number("integer", r, 1), matching(strictyaml.SizePattern.String()))
	case reflect.TypeFor[expression.OpenWhenText](), reflect.TypeFor[expression.FailureWhenText]():
		return &jsonschema.Schema{Type: "string"}
	case reflect.TypeFor[Upstream]():
		return matching(`^([hH][tT][tT][pP][sS]?|[hH]2[cC])://[^/?#@\s]+(/[^?#\s]*)?$`)
	case reflect.TypeFor[Endpoints]():
		list := oneOrMore(matching(`^([dD][nN][sS]\+)?([hH][tT][tT][pP][sS]?|[hH]2[cC])://[^/?#@\s]+(/[^?#\s]*)?$`))
		list.AnyOf[1].MaxItems, list.AnyOf[1].UniqueItems = jsonschema.Ptr(maxEndpoints), true
		return list
	case reflect.TypeFor[Prefixes]():
		list := oneOrMore(matching(`^/[^?#]*$`))
		list.AnyOf[1].MinItems = nil // a route with listen needs no prefix
		return list
	case reflect.TypeFor[Statuses]():
		item := either(&jsonschema.Schema{Type: "integer", Minimum: jsonschema.Ptr(100.0), Maximum: jsonschema.Ptr(999.0)},
			matching(statusClass.String(), statusRange.String()))
		list := oneOrMore(item)
		list.AnyOf[1].MinItems = nil
		return list
	}
	if reflect.PointerTo(t).Implements(strictyaml.UnmarshalerType) { // knows by itself what it takes
		return &jsonschema.Schema{}
	}
	switch t.Kind() {
	case reflect.Slice:
		list := &jsonschema.Schema{Type: "array", Items: g.value(t.Elem(), r)}
		if r.MaxItems > 0 {
			list.MaxItems = jsonschema.Ptr(r.MaxItems)
		}
		return list
	case reflect.Map:
		return &jsonschema.Schema{Type: "object", AdditionalProperties: g.value(t.Elem(), r)}
	case reflect.Bool:
		return either(&jsonschema.Schema{Type: "boolean"}, matching())
	case reflect.Int, reflect.Int64:
		return either(number("integer", r, 1), matching())
	case reflect.Float64:
		return either(number("number", r, 1), matching())
	case reflect.String:
		return text(r)
	}
	return &jsonschema.Schema{}
}

// text returns the schema of a string. A number is accepted too.
func text(r strictyaml.Rules) *jsonschema.Schema {
	if r.Enum == nil {
		s := &jsonschema.Schema{Types: []string{"string", "number"}}
		if form, ok := textform.Forms[r.Valid]; ok {
			s.Pattern = matching(form.Pattern).Pattern
		}
		return s
	}
	enum := &jsonschema.Schema{}
	for _, value := range r.Enum {
		enum.Enum = append(enum.Enum, value)
	}
	return either(enum, matching())
}

// matching returns the schema of a string that matches one of the patterns, or contains a ${} reference.
func matching(forms ...string) *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: strings.Join(append(forms, `\$\{`), "|")}
}

// number returns the schema of a number within r's bounds, which are in units of 1/scale.
func number(kind string, r strictyaml.Rules, scale int64) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: kind}
	low, high, bounded := strings.Cut(r.Valid, "..")
	end := func(text string) *float64 {
		size, want := strictyaml.ParseSize(text)
		if want == "" {
			return jsonschema.Ptr(float64(size) / float64(scale))
		}
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			return &f
		}
		if d, want := strictyaml.ParseDuration(text); want == "" {
			return jsonschema.Ptr(float64(d) / float64(scale))
		}
		return nil
	}
	switch {
	case r.Valid == "positive":
		s.ExclusiveMinimum = jsonschema.Ptr(0.0)
	case r.Valid == "non-negative":
		s.Minimum = jsonschema.Ptr(0.0)
	case bounded:
		s.Minimum, s.Maximum = end(low), end(high)
	}
	return s
}

func either(s ...*jsonschema.Schema) *jsonschema.Schema { return &jsonschema.Schema{AnyOf: s} }

func oneOrMore(item *jsonschema.Schema) *jsonschema.Schema {
	return either(item, &jsonschema.Schema{Type: "array", Items: item.CloneSchemas(), MinItems: jsonschema.Ptr(1)})
}

// never returns a schema that rejects every value.
func never() *jsonschema.Schema { return &jsonschema.Schema{Not: &jsonschema.Schema{}} }
