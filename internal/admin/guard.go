package admin

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// writeTimeout limits the time from a request to the end of its response. An event stream has streamTimeout per event instead.
const writeTimeout = 30 * time.Second

// guard rejects requests from web pages of other origins. A browser does not let a page read responses of another origin,
// unless the page's own host name resolves to this address (DNS rebinding). Therefore the Host must be a name that cannot be
// registered publicly, or a configured one. Other requests of such pages, which have an effect although the page cannot read
// the response, are detected by Origin and Sec-Fetch-Site.
func (a *api) guard(next http.Handler) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)) // not supported by httptest.ResponseRecorder
		setSecurityHeaders(w.Header())
		switch {
		case r.URL.Path == "/healthz" || r.URL.Path == "/readyz": // probes may use any host name; the responses contain no data
			next.ServeHTTP(w, r)
		case !a.hostAllowed(hostname(r.Host)):
			writeProblem(w, http.StatusForbidden, "the host name "+strconv.Quote(hostname(r.Host))+" is not allowed: add it to admin.hosts")
		case crossOrigin.Check(r) != nil || crossOriginRead(r):
			writeProblem(w, http.StatusForbidden, "the request comes from a page of another origin")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// setSecurityHeaders sets the header fields that make browsers withhold responses from pages of other origins.
func setSecurityHeaders(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
}

// crossOriginRead reports whether a page of another origin sent the request. Navigation by a link does not count.
func crossOriginRead(r *http.Request) bool {
	if origin := r.Header.Get("Origin"); origin != "" {
		u, err := url.Parse(origin)
		return err != nil || !strings.EqualFold(u.Host, r.Host)
	}
	site := r.Header.Get("Sec-Fetch-Site")
	return (site == "cross-site" || site == "same-site") && r.Header.Get("Sec-Fetch-Mode") != "navigate"
}

// hostname returns the name in a Host field, in lower case.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}

// privateDomains are the domains without public registration (RFC 6761, RFC 6762, ICANN's reservation of .internal, and
// Kubernetes).
var privateDomains = []string{".localhost", ".local", ".internal", ".home.arpa", ".svc", ".cluster.local"}

// hostAllowed reports whether requests for the host name are accepted: an address, a name without a dot, a name in a private
// domain, or a name in admin.hosts. A public page can have none of the first three.
func (a *api) hostAllowed(name string) bool {
	if _, err := netip.ParseAddr(name); err == nil || !strings.Contains(name, ".") {
		return true
	}
	if slices.ContainsFunc(privateDomains, func(domain string) bool { return strings.HasSuffix(name, domain) }) {
		return true
	}
	return slices.ContainsFunc(a.Backend.Hosts(), func(allowed string) bool { return allowed == "*" || strings.EqualFold(allowed, name) })
}
