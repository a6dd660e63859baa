package tune

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"

	"cbproxy/internal/strictyaml"
)

// Dimension is a key of a breaker, and the values of it that are tried.
type Dimension struct {
	// Key is its path below the key breaker of a route, such as recovery_backoff.multiplier.
	Key string
	// Values are JSON: numbers, and strings such as "30s".
	Values []json.RawMessage
}

// DimensionsOf returns the dimensions of a struct of options: its fields with a tag tune, which lists the values with spaces between
// them, and those of the structs in it. The tag yaml has their keys; prefix is put before them.
func DimensionsOf(options any, prefix string) []Dimension {
	if options == nil {
		return nil
	}
	t := reflect.TypeOf(options)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return dimensionsOf(t, prefix)
}

func dimensionsOf(t reflect.Type, prefix string) (all []Dimension) {
	for i := range t.NumField() {
		f := t.Field(i)
		name := strictyaml.KeyName(f)
		if values := f.Tag.Get("tune"); values != "" {
			all = append(all, Dimension{Key: prefix + name, Values: valuesOf(values)})
		} else if f.Type.Kind() == reflect.Struct && name != "" {
			all = append(all, dimensionsOf(f.Type, prefix+name+".")...)
		}
	}
	return all
}

// valuesOf returns the values in a tag tune as JSON.
func valuesOf(tag string) (values []json.RawMessage) {
	for text := range strings.FieldsSeq(tag) {
		if _, err := strconv.ParseFloat(text, 64); err != nil {
			text = strconv.Quote(text)
		}
		values = append(values, json.RawMessage(text))
	}
	return values
}

// keys are values by the path of their key. They are not modified.
type keys map[string]json.RawMessage

// with returns the keys with another value of one.
func (k keys) with(key string, value json.RawMessage) keys {
	next := make(keys, len(k)+1)
	for name, v := range k {
		next[name] = v
	}
	next[key] = value
	return next
}

// without returns the keys without one. Without algorithm there are no options of an algorithm either.
func (k keys) without(key string) keys {
	options := ""
	if key == "algorithm" {
		_ = json.Unmarshal(k[key], &options) // it is a string; "" if the key is missing
		options += "."
	}
	next := make(keys, len(k))
	for name, v := range k {
		if name != key && (options == "" || !strings.HasPrefix(name, options)) {
			next[name] = v
		}
	}
	return next
}

// json returns the keys as a JSON object in the form of the key breaker of a route. The same keys always have the same JSON.
func (k keys) json() string {
	root := map[string]any{}
	for path, value := range k {
		in := root
		for {
			name, rest, deeper := strings.Cut(path, ".")
			if !deeper {
				in[name] = value
				break
			}
			next, ok := in[name].(map[string]any)
			if !ok {
				next = map[string]any{}
				in[name] = next
			}
			in, path = next, rest
		}
	}
	text, _ := json.Marshal(root) // values are valid JSON
	return string(text)
}
