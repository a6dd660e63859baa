package routes

import (
	"encoding/json"
	"strings"
	"sync"
)

// described is what Describe wants to know of a JSON Schema.
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

// Describe says what a key is for, in the words of the JSON Schema; "" if it has none. A key is
// one of a Change, such as routes.rag_service.timeout. Safe for concurrent use.
func Describe(key string) string {
	root := parsedSchema()
	at := root
	for _, name := range strings.Split(key, ".") {
		next := at.Properties[name]
		if next == nil {
			next = new(described)
			if json.Unmarshal(at.Additional, next) != nil { // there is none, or it is a boolean
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
