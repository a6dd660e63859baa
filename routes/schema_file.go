package routes

import (
	_ "embed"
	"slices"
)

//go:embed config.schema.json
var schemaFile []byte

// Schema returns the JSON Schema (draft 2020-12) of the configuration file. It is made of
// the types and comments of this package and of the strategies' options. What one value asks of
// another is beyond it: Loader has the last word.
func Schema() []byte { return slices.Clone(schemaFile) }
