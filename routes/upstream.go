package routes

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"cbproxy/internal/strictyaml"
	"cbproxy/internal/textform"

	"gopkg.in/yaml.v3"
)

const wantUpstream = "must be an http, https or h2c URL such as http://rag:8000"

// UnmarshalYAML sets u to the URL in n.
func (u *Upstream) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
		return strictyaml.Errorf("%s, got %s", wantUpstream, strictyaml.Show(n))
	}
	parsed, want := parseUpstream(n.Value)
	if want != "" {
		return strictyaml.Errorf("%s, got %s", want, strictyaml.Show(n))
	}
	u.URL = parsed
	return nil
}

// parseUpstream returns the URL in text, with its path without a trailing slash. want states what an
// invalid text must be.
func parseUpstream(text string) (u *url.URL, want string) {
	if strings.ContainsFunc(text, textform.IsControl) {
		return nil, "must have no control character"
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, wantUpstream
	}
	switch host := u.Hostname(); {
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "h2c", u.Opaque != "":
		return nil, wantUpstream
	case u.User != nil:
		return nil, "must have no user name and password"
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(text, "#"):
		return nil, "must have no query and no fragment"
	case host == "" || strings.ContainsAny(host, " !$&'()*+,;=<>\"`{}|\\^/@"):
		return nil, "must name a host"
	case strings.HasSuffix(u.Host, ":") || u.Port() != "" && !isPort(u.Port(), 1):
		return nil, "must have a port from 1 to 65535 or none"
	}
	if want := textform.CheckPrefix(u.EscapedPath()); u.Path != "" && want != "" {
		return nil, want + " in its path"
	}
	u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), strings.TrimSuffix(u.RawPath, "/")
	return u, ""
}

// isPort reports whether text is a decimal port number of at least least.
func isPort(text string, least int) bool {
	port, err := strconv.Atoi(text)
	return err == nil && port >= least && port <= 65535 && strconv.Itoa(port) == text
}

// port returns the port of u, that of its scheme if it has none.
func (u Upstream) port() string {
	switch port := u.Port(); {
	case port != "":
		return port
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

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
	case n.Kind == yaml.SequenceNode && len(n.Content) == 0:
		return strictyaml.Errorf("%s, got an empty list", wantEndpoints)
	case n.Kind == yaml.MappingNode:
		return strictyaml.Errorf("%s, got %s", wantEndpoints, strictyaml.Show(n))
	case len(n.Content) > maxEndpoints:
		return strictyaml.Errorf("must have at most %d items, got %d", maxEndpoints, len(n.Content))
	}
	*e = nil
	known := map[string]bool{}
	wantItem := wantEndpoint
	if n.Kind == yaml.ScalarNode {
		wantItem = wantEndpoints
	}
	return strictyaml.EachScalar(n, wantItem, func(text string) string {
		endpoint, want := parseEndpoint(text)
		switch want {
		case "":
		case wantUpstream:
			return wantItem
		default:
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
	if want != "" || !e.Resolve {
		return e, want
	}
	if _, err := netip.ParseAddr(e.Hostname()); err == nil {
		return e, "must have a host name after dns+, whose addresses are looked up, and no IP address"
	}
	return e, ""
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

// ConnectionKey is what connections to an upstream are made from: those with equal keys are
// interchangeable.
type ConnectionKey struct {
	scheme, host string
	resolve      bool // the host is one of the addresses of its name
	tls          TLS  // only of https
}

// ConnectionKey returns the key of connections to u, which are secured by t if it is https.
func (u Upstream) ConnectionKey(t TLS) ConnectionKey {
	key := ConnectionKey{scheme: u.Scheme, host: u.Host}
	if u.Scheme == "https" {
		key.tls = t
	}
	return key
}

// ConnectionKey returns the key of connections to e, which are secured by t if it is https. That of an endpoint with dns+ differs from that of
// the same URL without: its connections lead to one of several addresses.
func (e Endpoint) ConnectionKey(t TLS) ConnectionKey {
	key := e.Upstream.ConnectionKey(t)
	key.resolve = e.Resolve
	return key
}
