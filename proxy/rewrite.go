package proxy

import (
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
)

// rewrite makes the upstream's request of the client's. ReverseProxy has already removed
// the hop-by-hop fields, so that nothing the client lists in Connection can take away what
// is set here.
func rewrite(pr *httputil.ProxyRequest) {
	x := exchangeOf(pr.In.Context())
	u := pr.Out.URL
	u.Scheme, u.Host, u.User = x.route.scheme, x.route.host, nil
	u.RawQuery, u.ForceQuery = pr.In.URL.RawQuery, pr.In.URL.ForceQuery // byte for byte: Rewrite mode drops what it can't parse
	setPath(x, pr)
	if !x.route.config.PreserveHost {
		pr.Out.Host = ""
	}
	for name := range pr.Out.Header {
		if isProxyField(name) {
			delete(pr.Out.Header, name)
		}
	}
	pr.SetXForwarded()
	x.upload.passTrailers(pr.In, pr.Out)
}

// setPath joins the upstream's base and the raw path below the prefix. Opaque is what
// http.Transport writes unchanged, save that it takes a leading // for an authority: then
// it writes RawPath, if that is a valid encoding.
func setPath(x *exchange, pr *httputil.ProxyRequest) {
	u := pr.Out.URL
	path := x.route.base + x.rest
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

// isProxyField reports whether a request field is the proxy's to set or to withhold. A
// spelling with underscores counts: CGI and WSGI read it as the one with hyphens.
func isProxyField(name string) bool {
	if strings.IndexByte(name, '_') >= 0 {
		name = http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
	}
	switch name[0] {
	case 'F':
		return name == "Forwarded"
	case 'P':
		return name == "Proxy-Status"
	case 'X':
		return strings.HasPrefix(name, "X-Forwarded-") || name == "X-Forwarded" || name == "X-Real-Ip" || isSignal(name)
	}
	return false
}

// isSignal reports whether a canonical field name is one by which the proxy tells what it
// did.
func isSignal(name string) bool {
	return strings.HasPrefix(name, "X-Circuit-Breaker-") || name == "X-Fallback" || name == "X-Fallback-Reason"
}

// removeSignals deletes an upstream's copies of the proxy's own response fields.
func removeSignals(h http.Header) {
	for name := range h {
		if name == "Proxy-Status" || isSignal(name) {
			delete(h, name)
		}
	}
}
