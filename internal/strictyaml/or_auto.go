package strictyaml

import (
	"reflect"

	"gopkg.in/yaml.v3"
)

// auto is the text of an automatic value.
const auto = "auto"

// OrAuto is a setting with a value, or one whose value the program determines itself: auto. Value is 0 if Auto is true.
type OrAuto[T any] struct {
	Value T
	Auto  bool
}

// AutoSetting is implemented by all OrAuto types, so that code that works by reflection recognizes them.
type AutoSetting interface {
	// Setting returns the value, of type T, or the text auto.
	Setting() any
	// withAuto returns an automatic setting of the same type.
	withAuto() any
}

// Setting returns the value, or the text auto.
func (o OrAuto[T]) Setting() any {
	if o.Auto {
		return auto
	}
	return o.Value
}

func (o OrAuto[T]) withAuto() any { return OrAuto[T]{Auto: true} }

// ValueType returns the type of the value of an OrAuto type. ok is false if t is another type.
func ValueType(t reflect.Type) (value reflect.Type, ok bool) {
	if !t.Implements(reflect.TypeFor[AutoSetting]()) {
		return nil, false
	}
	field, _ := t.FieldByName("Value")
	return field.Type, true
}

// orAuto decodes n into v, whose type is an OrAuto.
func (d *Decoder) orAuto(n *yaml.Node, at Place, v reflect.Value, r Rules) bool {
	if n.Kind == yaml.ScalarNode && n.Value == auto {
		v.Set(reflect.ValueOf(v.Interface().(AutoSetting).withAuto()))
		return true
	}
	next := reflect.New(v.Type()).Elem()
	value := next.FieldByName("Value")
	want := d.scalar(n, value, r)
	if want == "" {
		want = r.check(value, d.Forms)
	}
	if want != "" {
		d.Faults.Add(at, "%s, or auto, got %s", want, Show(n))
		return false
	}
	v.Set(next)
	return true
}
