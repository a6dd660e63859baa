package routes

import (
	"strings"

	"cbproxy/internal/strictyaml"

	"gopkg.in/yaml.v3"
)

// eachRoute calls f with each route in the order of the file, and the path of its key.
func (b *builder) eachRoute(f func(name, path string, n *yaml.Node, r *Route)) {
	section, _ := strictyaml.Lookup(b.root, "routes")
	for i := 0; section != nil && section.Kind == yaml.MappingNode && i < len(section.Content) && !b.faults.Full(); i += 2 {
		key := section.Content[i]
		if r := b.config.Routes[key.Value]; r != nil {
			f(key.Value, b.at("routes").Key(key).Path, section.Content[i+1], r)
		}
	}
}

// source returns the section that sets the combination of some keys of the route at path: the route
// if it has at least one of them, otherwise the defaults. ok is false if one of the keys has a fault:
// its value is then not that of the file.
func (b *builder) source(path string, n *yaml.Node, keys ...string) (section string, ok bool) {
	section = "defaults"
	for _, key := range keys {
		from := "defaults"
		if has(n, key) {
			from, section = path, path
		}
		if b.faults.Has(strictyaml.Join(from, key)) {
			return "", false
		}
	}
	return section, true
}

// has reports whether there is a value at a path of keys below the mapping n.
func has(n *yaml.Node, path string) bool {
	for name := range strings.SplitSeq(path, ".") {
		n, _ = strictyaml.Lookup(n, name)
	}
	return n != nil
}

// checkPrefixes adds a fault for each prefix that an earlier route also has.
func (b *builder) checkPrefixes() {
	owners := map[string]string{}
	b.eachRoute(func(name, path string, _ *yaml.Node, r *Route) {
		path += ".prefix"
		if b.faults.Has(path) {
			return
		}
		for _, prefix := range r.Prefix {
			canonical := canonicalPrefix(prefix)
			if owner, taken := owners[canonical]; taken {
				b.faults.Add(b.at(path), "must not be the prefix of another route, got %s, the prefix of %s", prefix, owner)
				continue
			}
			owners[canonical] = name
		}
	})
}

// checkRoute checks the combinations of keys of the route n at path.
func (b *builder) checkRoute(path string, n *yaml.Node, r *Route) {
	b.checkRetry(path, n, r)
	b.checkProbe(path, n, r)
}

// checkProbe adds a fault if the probe of the route n at path cannot be sent.
func (b *builder) checkProbe(path string, n *yaml.Node, r *Route) {
	const always, grpc = "breaker.probe.always", "breaker.probe.grpc"
	p := r.Breaker.Probe
	if p.Always && !p.Enabled() {
		if section, ok := b.source(path, n, always, grpc, "breaker.probe.path"); ok {
			b.faults.Add(b.at(strictyaml.Join(section, always)), "must be false unless breaker.probe.path or breaker.probe.grpc says what is sent, got true")
		}
	}
	if !p.GRPC {
		return
	}
	for _, e := range r.Upstream {
		if e.Scheme != "http" {
			continue
		}
		if section, ok := b.source(path, n, grpc, "upstream"); ok {
			b.faults.Add(b.at(strictyaml.Join(section, grpc)), "must be false unless each upstream is an h2c or https URL, because gRPC needs HTTP/2, got true with %s", e)
		}
		return
	}
}

// checkRetry adds a fault if the max_backoff of the route n at path is less than its backoff.
func (b *builder) checkRetry(path string, n *yaml.Node, r *Route) {
	if r.Retry.MaxBackoff >= r.Retry.Backoff {
		return
	}
	if section, ok := b.source(path, n, "retry.max_backoff", "retry.backoff"); ok {
		b.faults.Add(b.at(strictyaml.Join(section, "retry.max_backoff")), "must be backoff (%s) or more, got %s",
			formatDuration(r.Retry.Backoff), formatDuration(r.Retry.MaxBackoff))
	}
}
