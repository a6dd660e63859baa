package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
)

// read guards a handler that changes nothing.
func (a *api) read(h http.HandlerFunc) http.Handler {
	return only(http.MethodGet, func(w http.ResponseWriter, r *http.Request) {
		if !a.Proxy.ProtectReads() || a.authorized(w, r) {
			h(w, r)
		}
	})
}

// write guards a handler that changes state.
func (a *api) write(method string, h http.HandlerFunc) http.Handler {
	return only(method, func(w http.ResponseWriter, r *http.Request) {
		if a.authorized(w, r) {
			h(w, r)
		}
	})
}

// authorized reports whether r carries the token, and answers it if it does not.
func (a *api) authorized(w http.ResponseWriter, r *http.Request) bool {
	token, err := a.Proxy.Token()
	if err != nil {
		a.Logger.Error("no token to check requests against", "error", err)
	}
	if token == "" {
		problem(w, http.StatusForbidden, "no token is configured: set admin.token_file or CBPROXY_ADMIN_TOKEN")
		return false
	}
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") && same(strings.TrimSpace(given), token) {
		return true
	}
	a.audit(r, "refused", "path", r.URL.Path)
	w.Header().Set("WWW-Authenticate", `Bearer realm="cbproxy admin"`)
	problem(w, http.StatusUnauthorized, "the request needs the header Authorization: Bearer and the admin token")
	return false
}

// same compares in a time that tells nothing of either, not even their lengths.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
