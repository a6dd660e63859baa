package routes_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"gopkg.in/yaml.v3"

	"cbproxy/fallbacks"
	_ "cbproxy/fallbacks/standard"
	"cbproxy/internal/breaker/algorithm"
	"cbproxy/routes"
)

// strategies returns the options of the built-in strategies and the files with their comments.
func strategies(t *testing.T) (options map[string]any, sources []string) {
	t.Helper()
	options = map[string]any{}
	for name, make := range fallbacks.Options() {
		options[name] = make()
	}
	isTest := func(file string) bool { return strings.HasSuffix(file, "_test.go") }
	all := append(append(files(t, "../fallbacks/*.go"), files(t, "../fallbacks/*/*.go")...), files(t, "../internal/breaker/algorithm/*.go")...)
	return options, slices.DeleteFunc(all, isTest)
}

// algorithms returns the options of the breaker's algorithms, nil for one without options.
func algorithms() map[string]any {
	options := map[string]any{}
	for name, make := range algorithm.Options() {
		if options[name] = nil; make != nil {
			options[name] = make()
		}
	}
	return options
}

// schemaOf returns the schema with the built-in and the given strategies.
func schemaOf(t *testing.T, more map[string]any) []byte {
	t.Helper()
	all, sources := strategies(t)
	maps.Copy(all, more)
	return routes.GenerateSchema(t, all, algorithms(), sources...)
}

func TestSchemaIsUpToDate(t *testing.T) {
	want := schemaOf(t, nil)
	if *routes.Update {
		if err := os.WriteFile("config.schema.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(routes.Schema(), want) {
		t.Error("config.schema.json is stale: go test ./routes -run TestSchema -update")
	}
}

// validator returns a function that validates YAML against a schema.
func validator(t *testing.T, content []byte) func(yaml []byte) error {
	t.Helper()
	var schema jsonschema.Schema
	if err := json.Unmarshal(content, &schema); err != nil {
		t.Fatal(err)
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	return func(content []byte) error {
		t.Helper()
		var value any
		if err := yaml.Unmarshal(content, &value); err != nil {
			t.Fatal(err)
		}
		asJSON, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(asJSON, &value); err != nil {
			t.Fatal(err)
		}
		return resolved.Validate(value)
	}
}

func TestSchemaAcceptsGoodFiles(t *testing.T) {
	validate := validator(t, schemaOf(t, nil))
	for _, file := range append(files(t, "testdata/good/*.yaml"), "../config.example.yaml") {
		if err := validate(read(t, file)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestSchemaRejectsBadFiles(t *testing.T) {
	validate := validator(t, schemaOf(t, nil))
	for _, name := range []string{"breaker", "defaults", "durations", "empty_routes", "fallbacks", "list", "no_routes", "null", "null_sections", "nulls",
		"numbers", "prefixes", "retry", "sizes", "statuses", "stores", "stores_form", "text", "tls", "types", "unknown_keys", "upstreams"} {
		if validate(read(t, filepath.Join("testdata/bad", name+".yaml"))) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Breaker has the same name as a type of package routes.
type Breaker struct {
	Limit int `yaml:"limit" valid:"1..9"`
}

// rivals are options with types whose names collide with those of routes, and with a type of routes.
type rivals struct {
	Breaker Breaker        `yaml:"breaker"`
	Other   Breaker        `yaml:"other"`
	TLS     routes.TLS     `yaml:"tls"`
	Free    fallbacks.JSON `yaml:"free"`
}

func TestSchemaContainsOptionsOfStrategies(t *testing.T) {
	content := schemaOf(t, map[string]any{"rivals": &rivals{Breaker: Breaker{1}, Other: Breaker{2}}})
	validate := validator(t, content)
	file := func(fallback string) []byte {
		return []byte("routes: {rag_service: {upstream: http://rag, breaker: {fail_max: 3}}}\nfallbacks: {rag_service: {" + fallback + "}}")
	}
	for _, good := range []string{
		"static: {body: [1, {a: ~}]}", "static: {body: text}", "template: {body: {a: '{{service}}'}, max_body: 1KiB}", "try: [template, static]",
		"rivals: {breaker: {limit: 3}, other: {limit: 4}, tls: {ca_file: x}, free: [1]}",
	} {
		if err := validate(file(good)); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"static: {body: 1, max_body: 1KiB}", "static: {status: 100}", "template: {max_body: 1KB}", "template: {headers: {a: [b]}}", "try: [magic]", "magic: {}",
		"rivals: {breaker: {fail_max: 3}}", "rivals: {other: {limit: 10}}", "rivals: {tls: {limit: 3}}",
	} {
		if validate(file(bad)) == nil {
			t.Errorf("%s: accepted", bad)
		}
	}
	for _, comment := range []string{"Status of the answer.", "Body, any YAML value, served as JSON."} {
		if !bytes.Contains(content, []byte(comment)) {
			t.Errorf("the comment %q is missing", comment)
		}
	}
	var schema jsonschema.Schema
	if err := json.Unmarshal(content, &schema); err != nil {
		t.Fatal(err)
	}
	options := schema.Defs["Fallback"].Properties["rivals"].Properties
	first, second := schema.Defs["routes_test.Breaker"], options["other"]
	if first == nil || string(first.Properties["limit"].Default) != "1" || second.Ref != "" || string(second.Properties["limit"].Default) != "2" {
		t.Errorf("got %+v and %+v, want each with its default", first, second)
	}
}
