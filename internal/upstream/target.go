package upstream

import (
	"fmt"
	"net"
	"net/url"
	"strings"

	"golang.org/x/net/idna"
)

// Target is the address of an upstream in the form that http.Transport accepts.
type Target struct {
	// Scheme is http or https; h2c becomes http, as the pool's http.Transport is configured for it. Host has a port if the URL
	// has one.
	Scheme, Host string
	// Base is the URL's raw path, without a slash at its end.
	Base string
}

// TargetOf returns the target of an upstream's URL, whose scheme is http, https or h2c.
func TargetOf(u *url.URL) Target {
	t := Target{Scheme: u.Scheme, Host: u.Host, Base: strings.TrimSuffix(u.EscapedPath(), "/")}
	if t.Scheme == "h2c" {
		t.Scheme = "http"
	}
	return t
}

// SetURL sets u to a path below the target, which is sent byte for byte. http.Transport writes Opaque unchanged unless it
// starts with //, which would be an authority. Such a path is set as RawPath, which is written if it is a valid encoding: Opaque
// "//a/b" would be sent as "http://a/b".
func (t *Target) SetURL(u *url.URL, path string) {
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

// encodeInvalid percent-encodes only the bytes that are not allowed in a URL path (RFC 3986, section 3.3).
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

// dialAddress returns the host and port to dial for an upstream's URL.
func dialAddress(u *url.URL) string {
	host := u.Hostname()
	if ascii, err := idna.Lookup.ToASCII(host); err == nil { // otherwise it is an IP address, or the lookup fails
		host = ascii
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(host, port)
}
