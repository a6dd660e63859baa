package routes

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"cbproxy/internal/sanitize"
	"cbproxy/internal/strictyaml"
	"cbproxy/internal/textform"

	"gopkg.in/yaml.v3"
)

// fallbacks fills Config.Fallbacks: the built-in ones, overridden by those of the file.
func (b *builder) fallbacks() {
	trusted := &strictyaml.Collector{File: "built-in"}
	builtin := map[string]*Fallback{}
	for i := 0; i < len(b.builtin.Content); i += 2 {
		key, value := b.builtin.Content[i], b.builtin.Content[i+1]
		f := newFallback()
		builtin[key.Value] = f
		own := *b
		own.faults, own.decoder = trusted, strictyaml.Decoder{Faults: trusted, Forms: textform.Checks}
		own.fallback(f, value, strictyaml.Place{}.Key(key))
	}
	b.faults.Faults = append(b.faults.Faults, trusted.Faults...)
	maps.Copy(b.config.Fallbacks, builtin)

	section := b.section("fallbacks")
	for i := 0; section != nil && i < len(section.Content); i += 2 {
		key, value := section.Content[i], section.Content[i+1]
		at := b.at("fallbacks").Key(key)
		if !namePattern.MatchString(key.Value) {
			b.faults.Add(at, "%s", wantName)
		}
		f := builtin[key.Value]
		if f == nil {
			f = newFallback()
			b.config.Fallbacks[key.Value] = f
		}
		b.fallback(f, value, at)
	}
}

// fallback decodes n on top of f and checks the result.
func (b *builder) fallback(f *Fallback, n *yaml.Node, at strictyaml.Place) {
	b.decoder.Struct(n, at, reflect.ValueOf(f).Elem(), func(key, value *yaml.Node, here strictyaml.Place) {
		options := b.options(f, key.Value)
		if options == nil {
			b.addUnknownStrategy(here, key.Value)
			return
		}
		b.decoder.Value(value, here, reflect.ValueOf(options).Elem(), strictyaml.Rules{})
	})
	if n.Kind != yaml.MappingNode {
		return
	}
	b.checkTry(f, n, at)
	for _, name := range slices.Sorted(maps.Keys(f.Strategies)) {
		b.checkOptions(f.Strategies[name], name, n, at)
		b.addStrategyServer(f.Strategies[name], name, n, at)
	}
	maps.DeleteFunc(f.Strategies, func(name string, _ any) bool { return !slices.Contains(f.Try, name) })
}

// options returns f's options of a strategy, creating them if necessary, or nil if the strategy is unknown.
func (b *builder) options(f *Fallback, strategy string) any {
	if f.Strategies[strategy] == nil && b.Strategies[strategy] != nil {
		f.Strategies[strategy] = b.Strategies[strategy]()
	}
	return f.Strategies[strategy]
}

// checkTry checks the strategies in try and creates missing options.
func (b *builder) checkTry(f *Fallback, n *yaml.Node, at strictyaml.Place) {
	list, key := strictyaml.Lookup(n, "try")
	if key != nil && b.faults.Has(strictyaml.Join(at.Path, "try")) {
		return
	}
	if len(f.Try) == 0 {
		b.faults.Add(strictyaml.Locate(n, at, "try"), "must list at least one strategy (%s)", listNames(b.Strategies))
	}
	for i, name := range f.Try {
		here := strictyaml.Locate(n, at, "try")
		if list != nil {
			here = here.Item(i, list.Content[i])
		}
		if slices.Contains(f.Try[:i], name) {
			b.faults.Add(here, "must be listed once, got %s", name)
		}
		if b.options(f, name) == nil {
			b.addUnknownStrategy(here, name)
		}
	}
}

// addUnknownStrategy adds the fault of an unknown strategy.
func (b *builder) addUnknownStrategy(at strictyaml.Place, name string) {
	known := slices.Sorted(maps.Keys(b.Strategies))
	if strings.Contains(at.Path, ".try[") {
		b.faults.Add(at, "must be the name of a strategy (%s), got %s", strings.Join(known, ", "), sanitize.TruncateRunes(name, strictyaml.MaxNameRunes))
		return
	}
	b.decoder.UnknownKey(at, name, append([]string{"when", "try"}, known...))
}

// checkOptions calls the DropDefaults and Validate methods of a strategy's options. It adds no second
// fault for a value that already has one.
func (b *builder) checkOptions(options any, strategy string, n *yaml.Node, at strictyaml.Place) {
	if o, ok := options.(interface {
		DropDefaults(given func(key string) bool)
	}); ok {
		mapping, _ := strictyaml.Lookup(n, strategy)
		o.DropDefaults(func(key string) bool {
			value, _ := strictyaml.Lookup(mapping, key)
			return value != nil
		})
	}
	if o, ok := options.(interface {
		Validate(report func(path, message string))
	}); ok {
		o.Validate(b.reportOption(strategy, n, at))
	}
}

// reportOption returns a function that adds a fault of the options at key of the mapping n, unless that place already has one.
func (b *builder) reportOption(key string, n *yaml.Node, at strictyaml.Place) func(path, message string) {
	return func(path, message string) {
		if b.faults.Full() {
			return
		}
		here := strictyaml.Locate(n, at, strictyaml.Join(key, path))
		if !b.faults.Has(here.Path) {
			b.faults.Add(here, "%s", message)
		}
	}
}

// listNames returns the keys of m for the message of a fault.
func listNames[T any](m map[string]T) string {
	if len(m) == 0 {
		return "none is defined"
	}
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}
