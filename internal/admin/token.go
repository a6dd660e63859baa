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
	token, err := a.token()
	switch {
	case err != nil:
		problem(w, http.StatusForbidden, "the proxy can't read its token, and its log tells why")
		return false
	case token == "":
		problem(w, http.StatusForbidden, "no token is configured: set admin.token_file or CBPROXY_ADMIN_TOKEN")
		return false
	}
	if r.Header.Get("Authorization") != "" {
		verdict, wait := a.guesses.judge(r, token)
		switch verdict {
		case right:
			return true
		case tooMany:
			w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
			problem(w, http.StatusTooManyRequests, "too many wrong tokens have come from this address")
			return false
		default:
			a.audit(r, action{Action: "refused", Error: "wrong token"}, "path", r.URL.Path, "more_are_not_logged", verdict == lastWrong)
		}
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="cbproxy admin"`)
	problem(w, http.StatusUnauthorized, "the request needs the header Authorization: Bearer and the admin token")
	return false
}

// token returns the token, "" if none is configured. That it can't be read is logged once, and once that it
// can be again, however many requests need it meanwhile.
func (a *api) token() (string, error) {
	token, err := a.Proxy.Token()
	if failed := err != nil; a.tokenless.Swap(failed) != failed {
		if failed {
			a.Logger.Error("no token to check requests against, which are refused until there is one", "error", err)
		} else {
			a.Logger.Info("the token to check requests against can be read again")
		}
	}
	return token, err
}

// carries reports whether r has the token.
func carries(r *http.Request, token string) bool {
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "Bearer") && same(strings.TrimSpace(given), token)
}

// same compares in a time that tells nothing of either, not even their lengths.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// How fast tokens can be tried, by address.
const (
	guessBurst    = 20              // wrong ones at once
	guessRate     = 5               // a second, after that
	guessPatience = 2 * time.Second // that a request waits for its turn then
	guessersKnown = 4096            // addresses that are remembered
)

// verdict is what is known of a token.
type verdict int

const (
	wrong     verdict = iota
	lastWrong         // and the next one must wait
	right
	tooMany // wrong ones have come: this one was not looked at, or was wrong after a wait
)

// guesses limits how fast tokens can be tried. Who has tried too many waits for a turn before
// the next one is looked at, and so does an operator at the same address, who gets through with
// the right one.
type guesses struct {
	mu       sync.Mutex
	limiters *lru.LRU[netip.Addr, *rate.Limiter] // of those who sent wrong ones
}

func newGuesses() *guesses {
	limiters, _ := lru.NewLRU[netip.Addr, *rate.Limiter](guessersKnown, nil) // fails only for a size of 0
	return &guesses{limiters: limiters}
}

// judge looks at r's token, and returns how long to wait if there were too many.
func (g *guesses) judge(r *http.Request, token string) (verdict, time.Duration) {
	turn, v := g.next(r, token)
	if turn == nil {
		return v, 0
	}
	wait := turn.Delay()
	if wait > guessPatience {
		turn.Cancel()
		return tooMany, wait
	}
	select {
	case <-r.Context().Done():
		turn.Cancel()
		return tooMany, wait
	case <-time.After(wait):
	}
	if carries(r, token) {
		return right, 0
	}
	return tooMany, time.Second
}

// next judges at once if it may, and returns when it is r's turn if not. Nobody else's guess is
// judged meanwhile.
func (g *guesses) next(r *http.Request, token string) (turn *rate.Reservation, v verdict) {
	address := guesser(r)
	g.mu.Lock()
	defer g.mu.Unlock()
	limiter, known := g.limiters.Get(address)
	if known && limiter.Tokens() < 1 {
		return limiter.Reserve(), tooMany
	}
	if carries(r, token) {
		return nil, right
	}
	if !known {
		limiter = rate.NewLimiter(guessRate, guessBurst)
		g.limiters.Add(address, limiter)
	}
	if limiter.Allow(); limiter.Tokens() < 1 {
		return nil, lastWrong
	}
	return nil, wrong
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
