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

// answerPatience is how long a client may take for an answer, once it has asked; the events have a time of their own.
const answerPatience = 30 * time.Second

// guard keeps other origins' pages away. A browser lets no page read the answers of another origin,
// unless the page's own name was made to lead here (DNS rebinding): so the request must be for a name
// that nobody else can have. A page may send requests whose answers it can't read: those are told by
// what browsers say of where they come from.
func (a *api) guard(next http.Handler) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerPatience)) // a test's recorder has none
		protect(w.Header())
		switch {
		case r.URL.Path == "/healthz" || r.URL.Path == "/readyz": // probes call by any name, and learn nothing
			next.ServeHTTP(w, r)
		case !a.ours(hostname(r.Host)):
			writeProblem(w, http.StatusForbidden, "the name "+strconv.Quote(hostname(r.Host))+" is not known to be this proxy's: add it to admin.hosts")
		case crossOrigin.Check(r) != nil || foreignRead(r):
			writeProblem(w, http.StatusForbidden, "the request comes from a page of another origin")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// protect sets what tells browsers to keep answers from other origins.
func protect(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
}

// foreignRead reports whether a page of another origin wants to read something. Following a link to
// here is not that.
func foreignRead(r *http.Request) bool {
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

// private are the domains in which nobody can register a name (RFC 6761, RFC 6762, ICANN's
// reservation of .internal, and Kubernetes').
var private = []string{".localhost", ".local", ".internal", ".home.arpa", ".svc", ".cluster.local"}

// ours reports whether a request for the name may be answered: no page of somebody else's can have
// an address, a name without a dot, or one in a private domain.
func (a *api) ours(name string) bool {
	if _, err := netip.ParseAddr(name); err == nil || !strings.Contains(name, ".") {
		return true
	}
	if slices.ContainsFunc(private, func(domain string) bool { return strings.HasSuffix(name, domain) }) {
		return true
	}
	return slices.ContainsFunc(a.Proxy.Hosts(), func(known string) bool { return known == "*" || strings.EqualFold(known, name) })
}
