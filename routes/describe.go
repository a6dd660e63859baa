package routes

import (
	_ "embed"
	"encoding/json"
	"slices"
	"strings"
	"sync"
)

//go:embed config.schema.json
var schemaFile []byte

// Schema returns the JSON Schema (draft 2020-12) of the configuration file. It is generated from the
// types and comments of this package and from the options of the strategies. It does not express
// conditions between several values: those are checked by Loader only.
func Schema() []byte { return slices.Clone(schemaFile) }

// described is the part of a JSON Schema that Describe reads.
type described struct {
	Ref         string                `json:"$ref"`
	Description string                `json:"description"`
	Properties  map[string]*described `json:"properties"`
	Additional  json.RawMessage       `json:"additionalProperties"`
	Defs        map[string]*described `json:"$defs"`
}

var parsedSchema = sync.OnceValue(func() *described {
	root := new(described)
	if err := json.Unmarshal(schemaFile, root); err != nil {
		panic("the embedded JSON Schema: " + err.Error())
	}
	return root
})

// Describe returns the description of a key in the JSON Schema, "" if there is none. The key has the
// form of Change.Key, such as routes.rag_service.timeout. Safe for concurrent use.
func Describe(key string) string {
	root := parsedSchema()
	at := root
	for _, name := range strings.Split(key, ".") {
		next := at.Properties[name]
		if next == nil {
			next = new(described)
			if json.Unmarshal(at.Additional, next) != nil { // additionalProperties is missing or a boolean
				return ""
			}
		}
		at = next
		if def := strings.TrimPrefix(at.Ref, "#/$defs/"); def != "" {
			referred := *root.Defs[def]
			if at.Description != "" {
				referred.Description = at.Description
			}
			at = &referred
		}
	}
	return at.Description
}
