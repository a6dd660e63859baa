package routes

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"gopkg.in/yaml.v3"
)

func TestSchemaIsThatOfTheTypes(t *testing.T) {
	want := generateSchema(t)
	if *Update {
		must(t, os.WriteFile("config.schema.json", want, 0o644))
		return
	}
	if !bytes.Equal(Schema(), want) {
		t.Error("config.schema.json is stale: go test ./routes -run TestSchema -update")
	}
}

// validator returns what judges a YAML file by the schema.
func validator(t *testing.T) func(file string) error {
	t.Helper()
	var schema jsonschema.Schema
	must(t, json.Unmarshal(generateSchema(t), &schema))
	resolved, err := schema.Resolve(nil)
	must(t, err)
	return func(file string) error {
		t.Helper()
		content, err := os.ReadFile(file)
		must(t, err)
		var value any
		must(t, yaml.Unmarshal(content, &value))
		asJSON, err := json.Marshal(value)
		must(t, err)
		must(t, json.Unmarshal(asJSON, &value))
		return resolved.Validate(value)
	}
}

func TestSchemaAcceptsGoodFiles(t *testing.T) {
	validate := validator(t)
	good, err := filepath.Glob("testdata/good/*.yaml")
	must(t, err)
	for _, file := range append(good, "../config.example.yaml") {
		if err := validate(file); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestSchemaRefusesFaultsOfStructure(t *testing.T) {
	validate := validator(t)
	for _, name := range []string{"breaker", "defaults", "durations", "empty_routes", "fallbacks", "list", "no_routes", "null", "null_sections", "nulls",
		"numbers", "pending", "prefixes", "retry", "sizes", "statuses", "stores", "stores_form", "text", "tls", "types", "unknown_keys", "upstreams"} {
		if validate("testdata/bad/"+name+".yaml") == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
