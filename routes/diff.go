package routes

import (
	"bytes"
	"encoding"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"cbproxy/internal/strictyaml"
)

// Change is one key whose effective value differs between two configurations.
type Change struct {
	// Key is the complete path of the key, such as routes.rag_service.timeout.
	Key string `json:"key"`
	// Old and New are the values as JSON without secrets, nil if the key does not exist.
	Old json.RawMessage `json:"old,omitempty"`
	New json.RawMessage `json:"new,omitempty"`
	// Hidden reports that the values differ only in a secret.
	Hidden bool `json:"hidden,omitempty"`
	// Restart reports that the change takes effect only after a restart.
	Restart bool `json:"restart,omitempty"`
}

// Diff returns the differences of the effective values of old and c in the order of the schema, routes
// and fallbacks by name. A route or a fallback that exists only in one of them is one change.
func (c *Config) Diff(old *Config) []Change {
	var d differ
	d.compare("", reflect.ValueOf(*old), reflect.ValueOf(*c))
	restart := c.RestartKeys(old)
	for i := range d.changes {
		key := d.changes[i].Key
		d.changes[i].Restart = slices.ContainsFunc(restart, func(r string) bool { return key == r || strings.HasPrefix(key, r+".") })
	}
	return d.changes
}

type differ struct{ changes []Change }

func (d *differ) compare(key string, old, next reflect.Value) {
	switch {
	case reflect.DeepEqual(old.Interface(), next.Interface()):
	case isLeaf(old) || isLeaf(next) || old.Type() != next.Type():
		d.add(key, old, next)
	case old.Kind() == reflect.Pointer:
		d.compare(key, old.Elem(), next.Elem())
	case old.Kind() == reflect.Map:
		d.compareMaps(key, old, next)
	default:
		d.compareStructs(key, old, next)
	}
}

// isLeaf reports whether a value is compared as a whole.
func isLeaf(v reflect.Value) bool {
	switch v.Interface().(type) {
	case time.Duration, Size, Statuses, Upstream, strictyaml.AutoSetting, json.Marshaler, encoding.TextMarshaler:
		return true
	}
	switch v.Kind() {
	case reflect.Pointer:
		return v.IsNil()
	case reflect.Map:
		return v.Type().Elem().Kind() != reflect.Pointer // a map of other types is the body of a response
	case reflect.Struct:
		return false
	}
	return true
}

func (d *differ) compareMaps(key string, old, next reflect.Value) {
	names := map[string]bool{}
	for _, m := range []reflect.Value{old, next} {
		for _, name := range m.MapKeys() {
			names[name.String()] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		d.entries(strictyaml.Join(key, name), old.MapIndex(reflect.ValueOf(name)), next.MapIndex(reflect.ValueOf(name)))
	}
}

// entries compares the values of one key in two maps. One of them may be missing.
func (d *differ) entries(key string, old, next reflect.Value) {
	if old.IsValid() && next.IsValid() {
		d.compare(key, old, next)
		return
	}
	d.add(key, old, next)
}

func (d *differ) compareStructs(key string, old, next reflect.Value) {
	for i := range old.NumField() {
		f := old.Type().Field(i)
		switch {
		case f.Tag.Get("yaml") == ",inline" && f.Type == reflect.TypeFor[map[string]any]():
			d.compareStrategies(key, old.Field(i).Interface().(map[string]any), next.Field(i).Interface().(map[string]any))
		case strictyaml.KeyName(f) == "" || f.Type == reflect.TypeFor[*Route](): // as in MarshalJSON
		default:
			d.compare(strictyaml.Join(key, strictyaml.KeyName(f)), old.Field(i), next.Field(i))
		}
	}
}

func (d *differ) compareStrategies(key string, old, next map[string]any) {
	names := map[string]any{} // not a clone: either map may be nil
	maps.Copy(names, old)
	maps.Copy(names, next)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		d.entries(strictyaml.Join(key, name), reflect.ValueOf(old[name]), reflect.ValueOf(next[name]))
	}
}

func (d *differ) add(key string, old, next reflect.Value) {
	c := Change{Key: key, Old: shown(old), New: shown(next)}
	c.Hidden = bytes.Equal(c.Old, c.New)
	d.changes = append(d.changes, c)
}

// shown returns a value as in MarshalJSON.
func shown(v reflect.Value) json.RawMessage {
	if !v.IsValid() {
		return nil
	}
	var out bytes.Buffer
	if err := writeValue(&out, v); err != nil {
		return json.RawMessage("null") // MarshalJSON fails for the same value
	}
	return out.Bytes()
}

// RestartKeys returns the keys whose values differ between old and c and take effect only
// after a restart, in the order of the file.
func (c *Config) RestartKeys(old *Config) []string {
	var keys []string
	add := func(key string, changed bool) {
		if changed {
			keys = append(keys, key)
		}
	}
	add("listen", c.Listen != old.Listen)
	add("server", c.Server != old.Server)
	add("data_dir", c.DataDir != old.DataDir)
	add("limits.header_bytes", c.Limits.HeaderBytes != old.Limits.HeaderBytes)
	add("limits.read_header_timeout", c.Limits.ReadHeaderTimeout != old.Limits.ReadHeaderTimeout)
	add("limits.idle_timeout", c.Limits.IdleTimeout != old.Limits.IdleTimeout)
	add("admin.listen", c.Admin.Listen != old.Admin.Listen)
	add("admin.tls", c.Admin.TLS != old.Admin.TLS)
	add("redis.url", c.Redis.URL != old.Redis.URL)
	add("redis.namespace", c.Redis.Namespace != old.Redis.Namespace)
	add("redis.tls", c.Redis.TLS != old.Redis.TLS)
	return keys
}
