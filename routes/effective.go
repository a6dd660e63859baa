package routes

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"cbproxy/internal/sanitize"
	"cbproxy/internal/strictyaml"
)

// MarshalJSON returns the effective configuration under the names of the file's keys, in
// the order of the schema, routes and fallbacks by name. Durations and sizes are as in the
// file. Tokens and credentials in URLs are omitted.
func (c *Config) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	if err := writeValue(&out, reflect.ValueOf(*c)); err != nil {
		return nil, fmt.Errorf("encode the configuration as JSON: %w", err)
	}
	return out.Bytes(), nil
}

// Value returns the effective value of a key below the route, such as breaker.fail_max, in the form of MarshalJSON; nil if there is none.
func (r *Route) Value(key string) json.RawMessage {
	value := shown(reflect.ValueOf(*r))
	for name := range strings.SplitSeq(key, ".") {
		var fields map[string]json.RawMessage
		if json.Unmarshal(value, &fields) != nil {
			return nil
		}
		value = fields[name]
	}
	return value
}

func writeValue(out *bytes.Buffer, v reflect.Value) error {
	switch value := v.Interface().(type) {
	case time.Duration:
		return writeJSON(out, formatDuration(value))
	case Size:
		return writeJSON(out, value.String())
	case strictyaml.AutoSetting:
		return writeValue(out, reflect.ValueOf(value.Setting()))
	case Statuses:
		return writeJSON(out, value.list())
	case Endpoints:
		return writeJSON(out, value.setting())
	case Upstream:
		if value.URL == nil {
			return writeJSON(out, nil)
		}
		return writeJSON(out, value.Redacted())
	case json.Marshaler, encoding.TextMarshaler:
		return writeJSON(out, value)
	}
	switch v.Kind() {
	case reflect.String:
		return writeJSON(out, sanitize.Redact(v.String()))
	case reflect.Slice:
		return writeList(out, v)
	case reflect.Pointer:
		if !v.IsNil() {
			return writeValue(out, v.Elem())
		}
	case reflect.Map:
		if v.Type().Key().Kind() == reflect.String {
			return writeMap(out, v)
		}
	case reflect.Struct:
		return writeStruct(out, v)
	}
	return writeJSON(out, v.Interface())
}

func writeList(out *bytes.Buffer, v reflect.Value) error {
	out.WriteByte('[')
	for i := range v.Len() {
		if i > 0 {
			out.WriteByte(',')
		}
		if err := writeValue(out, v.Index(i)); err != nil {
			return err
		}
	}
	out.WriteByte(']')
	return nil
}

func writeMap(out *bytes.Buffer, v reflect.Value) error {
	o := object{out: out}
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	for _, key := range keys {
		o.field(key.String(), v.MapIndex(key))
	}
	return o.end()
}

func writeStruct(out *bytes.Buffer, v reflect.Value) error {
	o := object{out: out}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		switch {
		case f.Tag.Get("yaml") == ",inline" && f.Type == reflect.TypeFor[map[string]any]():
			strategies := v.Field(i).Interface().(map[string]any)
			for _, name := range slices.Sorted(maps.Keys(strategies)) {
				o.field(name, reflect.ValueOf(strategies[name]))
			}
		case strictyaml.KeyName(f) == "" || f.Type == reflect.TypeFor[*Route](): // the defaults are merged into the routes
		default:
			o.field(strictyaml.KeyName(f), v.Field(i))
		}
	}
	return o.end()
}

// object writes the fields of a JSON object. After an error it does nothing.
type object struct {
	out    *bytes.Buffer
	opened bool
	err    error
}

func (o *object) field(name string, v reflect.Value) {
	if o.err != nil {
		return
	}
	if o.opened {
		o.out.WriteByte(',')
	} else {
		o.out.WriteByte('{')
	}
	o.opened = true
	if o.err = writeJSON(o.out, name); o.err == nil {
		o.out.WriteByte(':')
		o.err = writeValue(o.out, v)
	}
}

func (o *object) end() error {
	if !o.opened {
		o.out.WriteByte('{')
	}
	o.out.WriteByte('}')
	return o.err
}

func writeJSON(out *bytes.Buffer, v any) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	out.Truncate(out.Len() - 1) // the newline
	return nil
}

// formatDuration is Duration.String without trailing zero units: 1m, not 1m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if trimmed, ok := strings.CutSuffix(s, "m0s"); ok {
		s = trimmed + "m"
	}
	if trimmed, ok := strings.CutSuffix(s, "h0m"); ok {
		s = trimmed + "h"
	}
	return s
}
