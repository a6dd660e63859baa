package routes

import (
	"fmt"

	"cbproxy/internal/listen"
	"cbproxy/internal/sanitize"
	"cbproxy/internal/strictyaml"

	"gopkg.in/yaml.v3"
)

// OwnListener is the own listener of a service.
type OwnListener struct {
	Service string
	Address listen.Address
}

// OwnListeners returns the own listeners of all services, by Route.ListenerKey.
func (c *Config) OwnListeners() map[string]OwnListener {
	all := map[string]OwnListener{}
	for name, r := range c.Routes {
		if key := r.ListenerKey(name); key != "" {
			address, _ := listen.Parse(r.Listen) // was valid when the configuration was loaded
			all[key] = OwnListener{name, address}
		}
	}
	return all
}

// ListenerKey identifies the socket of the own listener of a service, in all configurations; "" if the service has none. A
// listener whose port the system chooses belongs to its service.
func (r *Route) ListenerKey(service string) string {
	if r.Listen == "" {
		return ""
	}
	address, _ := listen.Parse(r.Listen) // only the mode and the group may have become invalid
	key := address.Network + " " + address.Target
	if address.HasRandomPort() {
		key += " " + service
	}
	return key
}

// ListenError is the error of an address that can't be listened on.
type ListenError struct {
	// Fault has the position of the key in the file.
	Fault
	Err error
}

func (e *ListenError) Error() string { return e.String() }

// Unwrap returns Err.
func (e *ListenError) Unwrap() error { return e.Err }

// ListenError adds to err, the error of listening on an address, the key and its position, and what to do.
func (c *Config) ListenError(key string, err error) error {
	at := c.listenPlaces[key]
	const advice = "stop the process that uses the address, or set another address"
	return &ListenError{Err: err, Fault: Fault{
		File: c.file, Line: max(at.Line, 1), Column: max(at.Column, 1), Path: key, Message: fmt.Sprintf("cannot %s; %s", err, advice),
	}}
}

// listener is a listen address of the configuration.
type listener struct {
	key     string // such as routes.rag_service.listen
	at      strictyaml.Place
	text    string
	address listen.Address
}

// checkListeners checks the listen addresses, and that no two of them are the same.
func (b *builder) checkListeners() {
	b.addListener("listen", b.at("listen"), b.config.Listen)
	b.addListener("admin.listen", b.at("admin.listen"), b.config.Admin.Listen)
	b.eachRoute(func(_, path string, n *yaml.Node, r *Route) {
		if section, ok := b.source(path, n, "listen"); ok && r.Listen != "" {
			b.addListener(path+".listen", b.at(section+".listen"), r.Listen)
		}
	})
}

// addListener adds a listen address to b.listeners, or a fault.
func (b *builder) addListener(key string, at strictyaml.Place, text string) {
	if b.faults.Has(at.Path) {
		return
	}
	address, err := listen.Parse(text)
	if err != nil {
		b.faults.Add(at, "%s, got %q", err, sanitize.TruncateRunes(text, strictyaml.MaxValueRunes))
		return
	}
	for _, other := range b.listeners {
		if address.Conflicts(other.address) {
			b.faults.Add(at, "must be another address than %s (%s), got %s", other.key, other.text, text)
			return
		}
	}
	b.listeners = append(b.listeners, listener{key, at, text, address})
	b.config.listenPlaces[key] = at
}

// ownAddress returns the listen address of the proxy that u leads to in any spelling, "" if there is none. It does not resolve names: a
// loop through another name is detected at the first request.
func (b *builder) ownAddress(u Upstream) string {
	if u.URL == nil {
		return ""
	}
	for _, l := range b.listeners {
		if l.key != "admin.listen" && l.address.Accepts(u.Hostname(), u.port()) {
			return l.text
		}
	}
	return ""
}

// checkPrefixGiven adds a fault if a route has neither a prefix nor an own listener.
func (b *builder) checkPrefixGiven(r *Route, at strictyaml.Place, given bool) {
	if len(r.Prefix) > 0 || r.Listen != "" || b.faults.Has(strictyaml.Join(at.Path, "listen")) {
		return
	}
	path := strictyaml.Join(at.Path, "prefix")
	switch {
	case !given:
		at.Path = path
		b.faults.Add(at, "must be given, unless listen is: only built-in services have a default prefix")
	case !b.faults.Has(path) && !b.faults.Has("defaults.prefix"):
		b.faults.Add(b.at(path), "must be a path prefix such as /rag, or a list of them, got an empty list and no listen")
	}
}
