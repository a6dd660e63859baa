package strictyaml

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Decoder decodes nodes of a Tree into Go values. After a fault it continues with the next value;
// values with a fault keep what they had before. Not safe for concurrent use.
type Decoder struct {
	// Faults collects the faults; nil discards them.
	Faults *Collector
	// Expanded is that of the Tree.
	Expanded map[*yaml.Node]bool
	// Other returns what Struct calls for the keys of a nested struct that have no field; nil if such a key is a fault. Other itself may
	// be nil.
	Other func(v reflect.Value) func(key, value *yaml.Node, at Place)
	// Forms are the checks of strings by the name in their valid tag. Each returns what a text must be, "" if it is valid.
	Forms map[string]func(text string) (want string)
}

// Value decodes n, whose place is at, into v. A mapping sets the fields of a struct one by one; every
// other value is replaced as a whole. Value reports whether v was set.
func (d *Decoder) Value(n *yaml.Node, at Place, v reflect.Value, r Rules) bool {
	if n.Kind == 0 {
		return false
	}
	if _, ok := ValueType(v.Type()); ok {
		return d.orAuto(n, at, v, r)
	}
	if v.Kind() == reflect.Struct && !reflect.PointerTo(v.Type()).Implements(UnmarshalerType) {
		var other func(key, value *yaml.Node, at Place)
		if d.Other != nil {
			other = d.Other(v)
		}
		d.Struct(n, at, v, other)
		return true
	}
	next := reflect.New(v.Type()).Elem()
	if !d.plain(n, at, next, r) {
		return false
	}
	if want := r.check(next, d.Forms); want != "" {
		d.Faults.Add(at, "%s, got %s", want, Show(n))
		return false
	}
	v.Set(next)
	return true
}

var (
	UnmarshalerType = reflect.TypeFor[yaml.Unmarshaler]()
	DurationType    = reflect.TypeFor[time.Duration]()
	SizeType        = reflect.TypeFor[Size]()
)

// plain decodes every type but structs.
func (d *Decoder) plain(n *yaml.Node, at Place, v reflect.Value, r Rules) bool {
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
	want := d.scalar(n, v, r)
	if want != "" {
		d.Faults.Add(at, "%s, got %s", want, Show(n))
	}
	return want == ""
}

// scalar decodes n into v. If n is invalid, it returns what it must be.
func (d *Decoder) scalar(n *yaml.Node, v reflect.Value, r Rules) (want string) {
	text, isScalar := n.Value, n.Kind == yaml.ScalarNode && n.Tag != "!!null"
	if !isScalar {
		text = "\x00" // not valid for any type
	}
	quoted := n.Style != 0 && !d.Expanded[n]
	switch v.Type() {
	case DurationType:
		var value time.Duration
		value, want = ParseDuration(text)
		v.SetInt(int64(value))
		return want
	case SizeType:
		var value Size
		value, want = ParseSize(text)
		v.SetInt(int64(value))
		return want
	}
	switch v.Kind() {
	case reflect.String:
		if !isScalar || n.Tag == "!!bool" && !d.Expanded[n] {
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
		value, want = r.parseFloat(text)
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

func (d *Decoder) list(n *yaml.Node, at Place, v reflect.Value, r Rules) bool {
	if n.Kind != yaml.SequenceNode {
		d.Faults.Add(at, "%s, got %s", wantList, Show(n))
		return false
	}
	if r.MaxItems > 0 && len(n.Content) > r.MaxItems {
		d.Faults.Add(at, "must have at most %d items, got %d", r.MaxItems, len(n.Content))
		return false
	}
	all := true
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		all = d.Value(item, at.Item(i, item), v.Index(i), Rules{Valid: r.Valid, Enum: r.Enum}) && all
	}
	return all
}

func (d *Decoder) mapping(n *yaml.Node, at Place, v reflect.Value, r Rules) bool {
	if n.Kind != yaml.MappingNode {
		d.Faults.Add(at, "%s, got %s", WantMapping, Show(n))
		return false
	}
	all := true
	v.Set(reflect.MakeMap(v.Type()))
	for i := 0; i < len(n.Content); i += 2 {
		key, entry := n.Content[i], reflect.New(v.Type().Elem()).Elem()
		all = d.Value(n.Content[i+1], at.Key(key), entry, Rules{Valid: r.Valid, Enum: r.Enum}) && all
		v.SetMapIndex(reflect.ValueOf(key.Value).Convert(v.Type().Key()), entry)
	}
	return all
}

// unmarshal calls UnmarshalYAML of u. Its error may have a position and may be several joined errors.
func (d *Decoder) unmarshal(n *yaml.Node, at Place, u yaml.Unmarshaler) bool {
	if !complete(n) {
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
				here.Line, here.Column = line, column
			}
		}
		var inner *itemError
		if errors.As(err, &inner) {
			here.Path += inner.path
		}
		d.Faults.Add(here, "%s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	return false
}
