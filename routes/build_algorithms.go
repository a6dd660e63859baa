package routes

import (
	"maps"
	"reflect"
	"slices"

	"cbproxy/internal/strictyaml"

	"gopkg.in/yaml.v3"
)

// decodeAlgorithms returns a function for Decoder.Other of d: it decodes the options of algorithms, which are keys of a Breaker.
func (b *builder) decodeAlgorithms(d *strictyaml.Decoder) func(reflect.Value) func(key, value *yaml.Node, at strictyaml.Place) {
	return func(v reflect.Value) func(key, value *yaml.Node, at strictyaml.Place) {
		breaker, ok := v.Addr().Interface().(*Breaker)
		if !ok {
			return nil
		}
		return func(key, value *yaml.Node, at strictyaml.Place) {
			options := b.algorithmOptions(breaker, key.Value)
			if options == nil {
				d.UnknownKey(at, key.Value, b.breakerKeys())
				return
			}
			d.Value(value, at, reflect.ValueOf(options).Elem(), strictyaml.Rules{})
		}
	}
}

// breakerKeys returns the keys of a Breaker, sorted.
func (b *builder) breakerKeys() []string {
	keys := slices.Collect(maps.Keys(strictyaml.FieldsOf(reflect.TypeFor[Breaker]())))
	for name, options := range b.Algorithms {
		if options != nil {
			keys = append(keys, name)
		}
	}
	slices.Sort(keys)
	return keys
}

// algorithmOptions returns the options of an algorithm for a breaker, which it may modify; nil if the algorithm is unknown or has no
// options. They begin as a copy of those that the breaker has inherited, or with the defaults.
func (b *builder) algorithmOptions(breaker *Breaker, name string) any {
	makeOptions := b.Algorithms[name]
	if makeOptions == nil {
		return nil
	}
	options := makeOptions()
	if inherited := breaker.Algorithms[name]; inherited != nil {
		reflect.ValueOf(options).Elem().Set(reflect.ValueOf(inherited).Elem())
	}
	own := map[string]any{}
	maps.Copy(own, breaker.Algorithms) // the map of the defaults belongs to all routes
	own[name] = options
	breaker.Algorithms = own
	return options
}

// chooseAlgorithm leaves only the options of the algorithm that the breaker of the route at a place uses, and checks them. n is the
// route, defaults the section of that name; nil if it is missing.
func (b *builder) chooseAlgorithm(r *Route, at strictyaml.Place, n, defaults *yaml.Node) {
	breaker := &r.Breaker
	name := breaker.Algorithm
	node, place := b.breakerNode(at, n, defaults, "algorithm")
	if _, known := b.Algorithms[name]; !known && b.Algorithms != nil {
		if here := strictyaml.Locate(node, place, "algorithm"); !b.faults.Has(here.Path) {
			value, _ := strictyaml.Lookup(node, "algorithm")
			b.faults.Add(here, "must be the name of an algorithm (%s), got %s", listNames(b.Algorithms), strictyaml.Show(value))
		}
		return
	}
	options := b.algorithmOptions(breaker, name)
	if options == nil {
		breaker.Algorithms = nil
		return
	}
	breaker.Algorithms = map[string]any{name: options}
	node, place = b.breakerNode(at, n, defaults, name)
	b.checkOptions(options, name, node, place)
	if o, ok := options.(interface {
		ValidateMinRequests(minRequests int, report func(path, message string))
	}); ok {
		o.ValidateMinRequests(breaker.MinRequests, b.reportOption(name, node, place))
	}
}

// breakerNode returns the mapping breaker, and its place, in which a key of it is set: that of the route n at a place, or that of the
// defaults if only these have the key.
func (b *builder) breakerNode(at strictyaml.Place, n, defaults *yaml.Node, key string) (*yaml.Node, strictyaml.Place) {
	if !has(n, "breaker."+key) && defaults != nil && has(defaults, "breaker."+key) {
		n, at = defaults, b.at("defaults")
	}
	breaker, _ := strictyaml.Lookup(n, "breaker")
	return breaker, strictyaml.Locate(n, at, "breaker")
}
