package proxy

import (
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
)

// rewrite makes the upstream's request of the client's. ReverseProxy has already removed
// the hop-by-hop fields, so that nothing the client lists in Connection can take away what
// is set here.
func rewrite(pr *httputil.ProxyRequest) {
	x := exchangeOf(pr.In.Context())
	u := pr.Out.URL
	x.route.target.Address(u, x.rest)
	u.RawQuery, u.ForceQuery = pr.In.URL.RawQuery, pr.In.URL.ForceQuery // byte for byte: Rewrite mode drops what it can't parse
	if !x.route.config.PreserveHost {
		pr.Out.Host = ""
	}
	for name := range pr.Out.Header {
		if isProxyField(name) {
			delete(pr.Out.Header, name)
		}
	}
	setForwarded(pr.Out.Header, pr.In)
	x.route.via.add(pr.Out.Header, pr.In)
	x.upload.passTrailers(pr.In, pr.Out)
}

// withoutTLS is how all clients come.
var withoutTLS = []string{"http"}

// setForwarded tells of the client of in.
func setForwarded(out http.Header, in *http.Request) {
	values := []string{in.Host, ""}
	if host, _, err := net.SplitHostPort(in.RemoteAddr); err == nil {
		values[1] = host
		out["X-Forwarded-For"] = values[1:2:2]
	}
	out["X-Forwarded-Host"], out["X-Forwarded-Proto"] = values[0:1:1], withoutTLS
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
