package routes

import (
	"net/netip"
	"slices"
	"strings"

	"cbproxy/internal/strictyaml"

	"gopkg.in/yaml.v3"
)

// maxEndpoints is the largest number of entries of an upstream.
const maxEndpoints = 64

// resolvePrefix precedes the scheme of a URL whose host name stands for all of its addresses.
const resolvePrefix = "dns+"

const (
	wantEndpoint  = wantUpstream + " or dns+http://rag:8000"
	wantEndpoints = wantEndpoint + ", or a list of 1 to 64 of them"
)

// UnmarshalYAML sets e to a URL or a list of URLs.
func (e *Endpoints) UnmarshalYAML(n *yaml.Node) error {
	switch {
	case n.Kind == yaml.SequenceNode && len(n.Content) == 0, n.Kind == yaml.MappingNode:
		return strictyaml.Errorf("%s, got %s", wantEndpoints, strictyaml.Show(n))
	case len(n.Content) > maxEndpoints:
		return strictyaml.Errorf("must have at most %d items, got %d", maxEndpoints, len(n.Content))
	}
	*e = nil
	known := map[string]bool{}
	want := wantEndpoint
	if n.Kind == yaml.ScalarNode {
		want = wantEndpoints
	}
	return strictyaml.EachScalar(n, want, func(text string) string {
		endpoint, want := parseEndpoint(text)
		if want != "" {
			return want
		}
		key := endpoint.canonical()
		if known[key] {
			return "must be listed once"
		}
		known[key] = true
		*e = append(*e, endpoint)
		return ""
	})
}

// parseEndpoint returns the endpoint in text. want states what an invalid text must be.
func parseEndpoint(text string) (e Endpoint, want string) {
	if len(text) >= len(resolvePrefix) && strings.EqualFold(text[:len(resolvePrefix)], resolvePrefix) {
		e.Resolve, text = true, text[len(resolvePrefix):]
	}
	e.URL, want = parseUpstream(text)
	switch {
	case want == wantUpstream:
		return e, wantEndpoint
	case want != "":
		return e, want
	case e.Resolve && isAddress(e.Hostname()):
		return e, "must have a host name after dns+, whose addresses can be looked up, and no IP address"
	}
	return e, ""
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// canonical returns the same text for all spellings of an endpoint.
func (e Endpoint) canonical() string {
	text := strings.ToLower(e.Scheme+"://"+e.Hostname()) + " " + e.port() + e.EscapedPath()
	if e.Resolve {
		return resolvePrefix + text
	}
	return text
}

// String returns the URL as it is written in the file, with dns+.
func (e Endpoint) String() string {
	switch {
	case e.URL == nil:
		return ""
	case e.Resolve:
		return resolvePrefix + e.Redacted()
	}
	return e.Redacted()
}

// String returns the endpoints as a list for a sentence.
func (e Endpoints) String() string { return strings.Join(e.texts(), ", ") }

func (e Endpoints) texts() []string {
	texts := make([]string, len(e))
	for i := range e {
		texts[i] = e[i].String()
	}
	return texts
}

// setting returns the endpoints in the form of the file: one as a text, several as a list; nil if there are none.
func (e Endpoints) setting() any {
	switch len(e) {
	case 0:
		return nil
	case 1:
		return e[0].String()
	}
	return e.texts()
}

// UsesTLS reports whether an endpoint has the scheme https.
func (e Endpoints) UsesTLS() bool {
	return slices.ContainsFunc(e, func(e Endpoint) bool { return e.Scheme == "https" })
}

// AllHTTP reports whether all endpoints have the scheme http.
func (e Endpoints) AllHTTP() bool {
	return !slices.ContainsFunc(e, func(e Endpoint) bool { return e.Scheme != "http" })
}

// ConnectionKey returns the key of connections to e, which are secured by t if it is https. That of an endpoint with dns+ differs from that of
// the same URL without: its connections lead to one of several addresses.
func (e Endpoint) ConnectionKey(t TLS) ConnectionKey {
	key := e.Upstream.ConnectionKey(t)
	key.resolve = e.Resolve
	return key
}
