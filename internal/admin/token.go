package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"
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
	given = strings.TrimSpace(given)
	if given != "" {
		right := strings.EqualFold(scheme, "Bearer") && same(given, token)
		wait, last := a.guesses.judge(guesser(r), right)
		switch {
		case wait > 0:
			w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
			problem(w, http.StatusTooManyRequests, "too many wrong tokens have come from this address")
			return false
		case right:
			return true
		}
		a.audit(r, action{Action: "refused", Error: "wrong token"}, "path", r.URL.Path, "more_are_not_logged", last)
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="cbproxy admin"`)
	problem(w, http.StatusUnauthorized, "the request needs the header Authorization: Bearer and the admin token")
	return false
}

// same compares in a time that tells nothing of either, not even their lengths.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// Wrong tokens that an address may send at once and then in a second, and addresses that are
// remembered.
const (
	guessBurst    = 10
	guessRate     = 1
	guessersKnown = 4096
)

// guesses limits how fast tokens can be tried. An address that sent too many wrong ones is refused
// with the right one, too, for a second: otherwise nothing would be limited.
type guesses struct {
	mu   sync.Mutex
	left *lru.LRU[netip.Addr, *rate.Limiter]
}

func newGuesses() *guesses {
	left, _ := lru.NewLRU[netip.Addr, *rate.Limiter](guessersKnown, nil) // fails only for a size of 0
	return &guesses{left: left}
}

// judge returns how long the address must wait, 0 if it need not, and whether it must from now on.
func (g *guesses) judge(address netip.Addr, right bool) (wait time.Duration, last bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	limiter, known := g.left.Get(address)
	if known && limiter.Tokens() < 1 {
		return time.Duration((1 - limiter.Tokens()) / guessRate * float64(time.Second)), false
	}
	if right {
		return 0, false
	}
	if !known {
		limiter = rate.NewLimiter(guessRate, guessBurst)
		g.left.Add(address, limiter)
	}
	limiter.Allow()
	return 0, limiter.Tokens() < 1
}

// guesser is whose guesses are counted together: an address, or the network that an IPv6 client has
// for itself. Clients of a Unix socket are one.
func guesser(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	address := peer.Addr().Unmap().WithZone("")
	if address.Is6() {
		network, _ := address.Prefix(64) // which any IPv6 address has
		return network.Addr()
	}
	return address
}
