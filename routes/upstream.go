package routes

import (
	"net/url"
	"strconv"
	"strings"

	"cbproxy/internal/strictyaml"

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
	if strings.ContainsFunc(text, isControl) {
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
	if want := checkPrefix(u.EscapedPath()); u.Path != "" && want != "" {
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
