package routes

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// decoder fills values from a tree. It is strict, keeps on after a fault, and leaves what
// is faulty, like what the file doesn't name, as it was.
type decoder struct {
	faults   *collector
	expanded map[*yaml.Node]bool
}

// value decodes n, which stands at, into v. Mappings fill a struct key by key; everything
// else is replaced as a whole. It tells whether v was set.
func (d *decoder) value(n *yaml.Node, at place, v reflect.Value, r rules) bool {
	if n.Kind == 0 {
		return false
	}
	if v.Kind() == reflect.Struct && !reflect.PointerTo(v.Type()).Implements(unmarshalerType) {
		d.structure(n, at, v, nil)
		return true
	}
	next := reflect.New(v.Type()).Elem()
	if !d.plain(n, at, next, r) {
		return false
	}
	if want := r.check(next); want != "" {
		d.faults.add(at, "%s, got %s", want, show(n))
		return false
	}
	v.Set(next)
	return true
}

var (
	unmarshalerType = reflect.TypeFor[yaml.Unmarshaler]()
	durationType    = reflect.TypeFor[time.Duration]()
	sizeType        = reflect.TypeFor[Size]()
)

// plain decodes everything but structs.
func (d *decoder) plain(n *yaml.Node, at place, v reflect.Value, r rules) bool {
	if u, ok := v.Addr().Interface().(yaml.Unmarshaler); ok {
		return d.unmarshal(n, at, u)
	}
	switch v.Kind() {
	case reflect.Slice:
		return d.list(n, at, v, r)
	case reflect.Map:
		return d.mapping(n, at, v, r)
	case reflect.Interface:
		value, ok := d.anything(n, at)
		if ok && value != nil {
			v.Set(reflect.ValueOf(value))
		}
		return ok
	}
	want := d.scalar(n, v)
	if want != "" {
		d.faults.add(at, "%s, got %s", want, show(n))
	}
	return want == ""
}

// scalar decodes n into v and returns what must be there instead, "" if all is well.
func (d *decoder) scalar(n *yaml.Node, v reflect.Value) (want string) {
	text, isScalar := n.Value, n.Kind == yaml.ScalarNode && n.Tag != "!!null"
	if !isScalar {
		text = "\x00" // has the form of no scalar
	}
	quoted := n.Style != 0 && !d.expanded[n]
	switch v.Type() {
	case durationType:
		var value time.Duration
		value, want = parseDuration(text)
		v.SetInt(int64(value))
		return want
	case sizeType:
		var value Size
		value, want = parseSize(text)
		v.SetInt(int64(value))
		return want
	}
	switch v.Kind() {
	case reflect.String:
		if !isScalar || n.Tag == "!!bool" && !d.expanded[n] {
			return wantString
		}
		v.SetString(text)
	case reflect.Bool:
		var value bool
		value, want = parseBool(text)
		v.SetBool(value)
		if quoted {
			return wantBool + " without quotes"
		}
	case reflect.Float64:
		var value float64
		value, want = parseFloat(text)
		v.SetFloat(value)
		if quoted {
			return wantFloat
		}
	case reflect.Int, reflect.Int64:
		var value int64
		value, want = parseInt(text)
		v.SetInt(value)
		if quoted {
			return wantInt
		}
	default:
		return fmt.Sprintf("cannot be read into a %s", v.Type())
	}
	return want
}

func (d *decoder) list(n *yaml.Node, at place, v reflect.Value, r rules) bool {
	if n.Kind != yaml.SequenceNode {
		d.faults.add(at, "%s, got %s", wantList, show(n))
		return false
	}
	if r.most > 0 && len(n.Content) > r.most {
		d.faults.add(at, "must have at most %d items, got %d", r.most, len(n.Content))
		return false
	}
	all := true
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		all = d.value(item, at.item(i, item), v.Index(i), rules{valid: r.valid, enum: r.enum}) && all
	}
	return all
}

func (d *decoder) mapping(n *yaml.Node, at place, v reflect.Value, r rules) bool {
	if n.Kind != yaml.MappingNode {
		d.faults.add(at, "%s, got %s", wantMapping, show(n))
		return false
	}
	all := true
	v.Set(reflect.MakeMap(v.Type()))
	for i := 0; i < len(n.Content); i += 2 {
		key, entry := n.Content[i], reflect.New(v.Type().Elem()).Elem()
		all = d.value(n.Content[i+1], at.key(key), entry, rules{valid: r.valid, enum: r.enum}) && all
		v.SetMapIndex(reflect.ValueOf(key.Value).Convert(v.Type().Key()), entry)
	}
	return all
}

// unmarshal lets the type decode itself. Its error may tell a position, and be several errors joined.
func (d *decoder) unmarshal(n *yaml.Node, at place, u yaml.Unmarshaler) bool {
	if !whole(n) {
		return false
	}
	err := u.UnmarshalYAML(n)
	if err == nil {
		return true
	}
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for _, err := range all {
		here := at
		var deeper interface{ Position() (line, column int) }
		if errors.As(err, &deeper) {
			if line, column := deeper.Position(); line > 0 {
				here.line, here.column = line, column
			}
		}
		var inner *itemError
		if errors.As(err, &inner) {
			here.path += inner.path
		}
		d.faults.add(here, "%s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	return false
}
