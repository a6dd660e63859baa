package upstream

import (
	"net/http"
	"strings"
)

// Mount is where clients find an upstream: below a prefix of the proxy's path, which the upstream does not see.
type Mount struct {
	// Prefix is the part of the client's path that was stripped, without a slash at its end; "" if nothing was.
	Prefix string
	// Path is the raw path of the request that the upstream answers, without Target.Base.
	Path string
	// Host is the Host field that the upstream received, if it is not that of the target.
	Host string
}

// RewriteLocation rewrites the fields Location and Content-Location of a response, so that a client that follows them reaches the
// upstream through the proxy again (RFC 9110, sections 10.2.2 and 8.7). An address of the upstream's own origin becomes a path, which
// a client resolves against the address that it has called. A path gets the prefix, unless it has it already: an application that
// knows its prefix, by X-Forwarded-Prefix or by its configuration, includes it. Other addresses, relative paths and paths outside of
// the target's base stay as they are.
func (t *Target) RewriteLocation(h http.Header, m Mount) {
	for _, name := range [...]string{"Location", "Content-Location"} {
		values := h[name]
		if len(values) == 0 {
			continue
		}
		rewritten := make([]string, len(values))
		for i, v := range values {
			rewritten[i] = t.rewriteAddress(v, m)
		}
		h[name] = rewritten
	}
}

func (t *Target) rewriteAddress(address string, m Mount) string {
	local, ok := t.cutOrigin(address, m)
	if !ok {
		return address
	}
	end := strings.IndexAny(local, "?#")
	if end < 0 {
		end = len(local)
	}
	path, rest := local[:end], local[end:]
	if !isBelow(path, t.Base) {
		return address
	}
	if path = path[len(t.Base):]; path == "" {
		path = "/"
	}
	if !isBelow(path, m.Prefix) || isBelow(m.Path, m.Prefix) {
		path = m.Prefix + path
	}
	if len(path) > 1 && (path[1] == '/' || path[1] == '\\') {
		path = "/." + path // otherwise a client would take it for the address of another host (RFC 3986, section 4.2)
	}
	return path + rest
}

// cutOrigin returns the path of an address of the upstream's own origin, with what follows it. ok is false for other addresses.
func (t *Target) cutOrigin(address string, m Mount) (path string, ok bool) {
	scheme, rest := t.Scheme, address
	if before, after, found := strings.Cut(address, "://"); found && !strings.ContainsAny(before, "/?#") {
		scheme, rest = before, "//"+after
	}
	rest, found := strings.CutPrefix(rest, "//")
	if !found {
		return address, strings.HasPrefix(address, "/")
	}
	end := strings.IndexAny(rest, "/?#\\")
	if end < 0 {
		end = len(rest)
	}
	host, path := rest[:end], rest[end:]
	own := strings.EqualFold(scheme, t.Scheme) && sameHost(host, t.Host, t.Scheme)
	// With the client's Host field, an application takes the proxy's address for its own, and does not know about TLS.
	own = own || m.Host != "" && strings.EqualFold(scheme, "http") && sameHost(host, m.Host, "http")
	if !own || strings.HasPrefix(path, `\`) {
		return "", false
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return path, true
}

// isBelow reports whether a path begins with the complete segments of prefix, which is "" or has no slash at its end.
func isBelow(path, prefix string) bool {
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && prefix == "" || ok && (rest == "" || rest[0] == '/')
}

// sameHost reports whether two hosts, each with or without a port, are the same for a scheme.
func sameHost(a, b, scheme string) bool {
	port := ":80"
	if scheme == "https" {
		port = ":443"
	}
	return strings.EqualFold(strings.TrimSuffix(a, port), strings.TrimSuffix(b, port))
}
