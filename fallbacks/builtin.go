package fallbacks

import _ "embed" // for builtin.yaml

//go:embed builtin.yaml
var builtin []byte

// Builtin returns the fallbacks of the built-in services: a YAML mapping by name, in the form of
// the configuration's fallbacks key.
func Builtin() []byte { return builtin }
