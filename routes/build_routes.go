package routes

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"cbproxy/internal/strictyaml"
	"cbproxy/internal/textform"

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
			d := &strictyaml.Decoder{Expanded: b.decoder.Expanded, Forms: textform.Checks}
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
	if len(r.Upstream) == 0 && !given("upstream") {
		b.faults.Add(strictyaml.Place{Path: strictyaml.Join(at.Path, "upstream"), Line: at.Line, Column: at.Column}, "%s, got none", wantEndpoints)
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

// fixedKeys are the keys of a route that WithRoute does not change: they say which service it is, and at which address.
var fixedKeys = []string{"prefix", "listen", "upstream", "tls"}

// WithRoute returns a copy of c in which keys of a route, that of a service which c must have, have other values, and the complete paths
// of these keys below the route, sorted. keys is a mapping in YAML or JSON in the form of a route, whose keys may be paths such as
// breaker.fail_max. The Hash of the copy is another one. The error is Faults with everything that is wrong; their paths are those below
// the route.
func (l Loader) WithRoute(c *Config, service string, keys []byte) (*Config, []string, error) {
	b := &builder{Loader: l, config: c, faults: &strictyaml.Collector{File: "set"}}
	doc := strictyaml.Parse(keys, b.faults)
	if doc == nil {
		return nil, nil, b.faults.Err()
	}
	t, _ := strictyaml.Flatten(doc, nil, b.faults)
	nested := strictyaml.Nest(t.Root, b.faults)
	b.refuseFixedKeys(nested)
	next := b.withKeys(service, nested)
	if err := b.faults.Err(); err != nil {
		return nil, nil, err
	}
	names := slices.Sorted(maps.Keys(strictyaml.Leaves(nested)))
	sum := sha256.New()
	sum.Write([]byte(c.Hash + " " + service))
	for _, name := range names {
		sum.Write([]byte("\n" + name + " " + string(next.Routes[service].Value(name))))
	}
	next.Hash = hex.EncodeToString(sum.Sum(nil)[:8])
	return next, names, nil
}

// WithBreaker is WithRoute for the keys of a breaker, in the form of the key breaker of a route. The paths of faults begin with breaker.
// The Hash stays the same.
func (l Loader) WithBreaker(c *Config, service string, keys []byte) (*Config, error) {
	b := &builder{Loader: l, config: c, faults: &strictyaml.Collector{File: "breaker"}}
	doc := strictyaml.Parse(keys, b.faults)
	if doc == nil {
		return nil, b.faults.Err()
	}
	// The document of a route that has nothing but these keys.
	t, ok := strictyaml.Flatten(&yaml.Node{Kind: yaml.MappingNode, Line: 1, Column: 1, Content: []*yaml.Node{strictyaml.KeyNode("breaker", doc), doc}}, nil, b.faults)
	if !ok {
		return nil, b.faults.Err()
	}
	next := b.withKeys(service, t.Root)
	if err := b.faults.Err(); err != nil {
		return nil, err
	}
	return next, nil
}

// withKeys returns a copy of the configuration in which the keys in the mapping n, which has the form of a route, have other values.
func (b *builder) withKeys(service string, n *yaml.Node) *Config {
	start := strictyaml.Place{Line: 1, Column: 1}
	b.root = n
	b.decoder = strictyaml.Decoder{Faults: b.faults, Forms: textform.Checks}
	b.decoder.Other = b.decodeAlgorithms(&b.decoder)
	changed := *b.config.Routes[service]
	b.decoder.Struct(n, start, reflect.ValueOf(&changed).Elem(), nil)
	b.chooseAlgorithm(&changed, start, n, nil)
	b.checkFallbackName(n, "")
	if changed.Fallback == "" && b.config.Fallbacks[service] != nil {
		changed.Fallback = service
	}
	b.checkRoute("", n, &changed)
	next := *b.config
	next.Routes = maps.Clone(b.config.Routes)
	next.Routes[service] = &changed
	return &next
}

// refuseFixedKeys adds a fault for each of fixedKeys in the mapping n, and removes them.
func (b *builder) refuseFixedKeys(n *yaml.Node) {
	allowed := slices.Sorted(maps.Keys(strictyaml.FieldsOf(reflect.TypeFor[Route]())))
	allowed = slices.DeleteFunc(allowed, func(name string) bool { return slices.Contains(fixedKeys, name) })
	for _, name := range fixedKeys {
		value, key := strictyaml.Lookup(n, name)
		if value == nil {
			continue
		}
		i := slices.Index(n.Content, key)
		n.Content = slices.Delete(n.Content, i, i+2)
		b.faults.Add(strictyaml.Place{Path: name, Line: key.Line, Column: key.Column},
			"can be changed in the file only; the keys that can be set are %s, and the keys below them", strings.Join(allowed, ", "))
	}
}
