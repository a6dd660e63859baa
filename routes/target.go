package routes

import (
	"fmt"
	"net/url"
	"strings"
)

// Target is an upstream as http.Transport wants to have it.
type Target struct {
	// Scheme is http or https, and Host has its port if the URL does.
	Scheme, Host string
	// Base is the URL's raw path, without a slash at its end.
	Base string
}

// Target returns u for http.Transport. That of h2c has the scheme http: the transport knows that
// it is HTTP/2.
func (u Upstream) Target() Target {
	t := Target{Scheme: u.Scheme, Host: u.Host, Base: strings.TrimSuffix(u.EscapedPath(), "/")}
	if t.Scheme == "h2c" {
		t.Scheme = "http"
	}
	return t
}

// ConnectionKey is what connections to an upstream are made from: those with equal keys are
// interchangeable.
type ConnectionKey struct {
	scheme, host string
	tls          TLS // only of https
}

// ConnectionKey returns the key of connections to u, which are secured by t if it is https.
func (u Upstream) ConnectionKey(t TLS) ConnectionKey {
	key := ConnectionKey{scheme: u.Scheme, host: u.Host}
	if u.Scheme == "https" {
		key.tls = t
	}
	return key
}

// Address makes u lead to a raw path below the target, byte for byte. Opaque is what
// http.Transport writes unchanged, save that it takes a leading // for an authority: then it
// writes RawPath, if that is a valid encoding.
func (t *Target) Address(u *url.URL, path string) {
	u.Scheme, u.Host, u.User = t.Scheme, t.Host, nil
	path = t.Base + path
	if path == "" {
		path = "/"
	}
	if !strings.HasPrefix(path, "//") {
		u.Opaque = path
		return
	}
	u.Opaque = ""
	u.RawPath = encodeInvalid(path)
	if decoded, err := url.PathUnescape(path); err == nil { // net/http has parsed it
		u.Path = decoded
	}
}

// encodeInvalid percent-encodes the bytes that no URL path may have (RFC 3986, section
// 3.3), and no others.
func encodeInvalid(path string) string {
	var b strings.Builder
	for i := range len(path) {
		c := path[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("/%-._~!$&'()*+,;=:@", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}
