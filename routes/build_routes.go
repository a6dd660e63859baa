package routes

import (
	"reflect"
	"regexp"

	"cbproxy/internal/strictyaml"

	"gopkg.in/yaml.v3"
)

var namePattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,62}$`)

const wantName = "must be a name of at most 63 letters, digits, _ and -, the first of them a letter"

// routes fills Config.Routes.
func (b *builder) routes() {
	defaults := b.section("defaults")
	inherited := newRoute("")
	if defaults != nil {
		b.decoder.Struct(defaults, b.at("defaults"), reflect.ValueOf(inherited).Elem(), nil)
		b.checkFallbackName(defaults, "defaults")
	}
	section := b.section("routes")
	if section == nil || len(section.Content) == 0 {
		if !b.faults.Has("routes") {
			b.faults.Add(b.at("routes"), "must have at least one route")
		}
		return
	}
	for i := 0; i < len(section.Content); i += 2 {
		name, value := section.Content[i].Value, section.Content[i+1]
		at := b.at("routes").Key(section.Content[i])
		if !namePattern.MatchString(name) {
			b.faults.Add(at, "%s", wantName)
		}
		b.config.Routes[name] = b.route(name, value, at, inherited, defaults)
	}
}

// route decodes the route at a place on top of the values that it inherits.
func (b *builder) route(name string, n *yaml.Node, at strictyaml.Place, inherited *Route, defaults *yaml.Node) *Route {
	r := new(Route)
	*r = *inherited
	if _, ok := builtinService(name); ok {
		r = newRoute(name)
		if defaults != nil { // on top of the built-in values; faults of defaults have been reported
			d := &strictyaml.Decoder{Expanded: b.decoder.Expanded, Forms: textChecks}
			d.Other = b.decodeAlgorithms(d)
			d.Struct(defaults, strictyaml.Place{}, reflect.ValueOf(r).Elem(), nil)
		}
	}
	b.decoder.Struct(n, at, reflect.ValueOf(r).Elem(), nil)
	if n.Kind == yaml.MappingNode {
		b.require(r, at, n, defaults)
		b.checkFallbackName(n, at.Path)
	}
	b.chooseAlgorithm(r, at, n, defaults)
	if r.Fallback == "" && b.config.Fallbacks[name] != nil {
		r.Fallback = name
	}
	return r
}

// require adds a fault for each required key that is missing in the route and in the defaults.
func (b *builder) require(r *Route, at strictyaml.Place, nodes ...*yaml.Node) {
	given := func(name string) bool {
		for _, n := range nodes {
			if value, _ := strictyaml.Lookup(n, name); value != nil {
				return true
			}
		}
		return false
	}
	b.checkPrefixGiven(r, at, given("prefix"))
	if r.Upstream.URL == nil && !given("upstream") {
		b.faults.Add(strictyaml.Place{Path: strictyaml.Join(at.Path, "upstream"), Line: at.Line, Column: at.Column}, "%s, got none", wantUpstream)
	}
}

// checkFallbackName adds a fault if the mapping at path names a fallback that doesn't exist.
func (b *builder) checkFallbackName(n *yaml.Node, path string) {
	value, _ := strictyaml.Lookup(n, "fallback")
	if value == nil || value.Kind != yaml.ScalarNode || value.Value == "" || b.faults.Has(strictyaml.Join(path, "fallback")) {
		return
	}
	if b.config.Fallbacks[value.Value] == nil {
		b.faults.Add(b.at(strictyaml.Join(path, "fallback")), "must be the name of a fallback (%s), got %s", listNames(b.config.Fallbacks), strictyaml.Show(value))
	}
}
