package admin

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"io"
	"net/http"
	"net/netip"
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
		writeProblem(w, http.StatusForbidden, "the proxy can't read its token, and its log tells why")
		return false
	case token == "":
		writeProblem(w, http.StatusForbidden, "no token is configured: set admin.token_file or CBPROXY_ADMIN_TOKEN")
		return false
	}
	if r.Header.Get("Authorization") != "" {
		switch verdict := a.guesses.judge(r, token, func() { readBody(w, r) }); verdict {
		case right:
			return true
		case gone:
			writeProblem(w, http.StatusServiceUnavailable, "the client left before its token was compared")
			return false
		case tooMany:
			w.Header().Set("Retry-After", "1")
			writeProblem(w, http.StatusTooManyRequests, "the token is wrong, and too many wrong ones have come from this address")
			return false
		default:
			a.audit(r, action{Action: "refused", Error: "wrong token"}, "path", r.URL.Path, "more_are_not_logged", verdict == lastWrong)
		}
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="cbproxy admin"`)
	writeProblem(w, http.StatusUnauthorized, "the request needs the header Authorization: Bearer and the admin token")
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
	guessBurst    = 20                    // wrong ones at once
	guessRate     = 5                     // a second, after that, before tokens are compared in turn
	guessPace     = 10 * time.Millisecond // between two comparisons in turn
	guessersKnown = 4096                  // addresses that are remembered
)

// verdict is what is known of a token.
type verdict int

const (
	wrong     verdict = iota
	lastWrong         // and the next one must wait
	right
	tooMany // wrong ones have come, and this one was wrong, too
	gone    // the client left before its turn
)

// guesses limits how fast tokens can be tried. Once an address has sent too many wrong ones, its tokens are compared one by one,
// guessPace apart, in the order in which they come. None is refused without having been compared, so that an operator at the same
// address gets through.
type guesses struct {
	mu       sync.Mutex
	guessers *lru.LRU[netip.Addr, *guesser] // those who sent wrong ones
}

// guesser is an address that sent wrong tokens.
type guesser struct {
	limiter *rate.Limiter
	turn    chan struct{} // holds a token while the next comparison must wait; waiters get it in the order in which they come
}

func newGuesses() *guesses {
	guessers, _ := lru.NewLRU[netip.Addr, *guesser](guessersKnown, nil) // fails only for a size of 0
	return &guesses{guessers: guessers}
}

// judge compares r's token. If too many wrong ones came from its address it waits for its turn, and calls readBody before: net/http
// notices only then that a client leaves.
func (g *guesses) judge(r *http.Request, token string, readBody func()) verdict {
	from, v := g.compareAtOnce(r, token)
	if v != tooMany {
		return v
	}
	readBody()
	select {
	case from.turn <- struct{}{}:
	case <-r.Context().Done():
		return gone
	}
	time.AfterFunc(guessPace, func() { <-from.turn })
	if carries(r, token) {
		return right
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if from.limiter.Tokens() > -guessBurst {
		from.limiter.Reserve() // whoever goes on stays limited
	}
	return tooMany
}

// compareAtOnce compares r's token if it need not wait for its turn, and returns tooMany if it must.
func (g *guesses) compareAtOnce(r *http.Request, token string) (from *guesser, v verdict) {
	address := addressOf(r)
	g.mu.Lock()
	defer g.mu.Unlock()
	from, known := g.guessers.Get(address)
	if known && from.limiter.Tokens() < 1 {
		return from, tooMany
	}
	if carries(r, token) {
		return from, right
	}
	if !known {
		from = &guesser{limiter: rate.NewLimiter(guessRate, guessBurst), turn: make(chan struct{}, 1)}
		g.guessers.Add(address, from)
	}
	if from.limiter.Allow(); from.limiter.Tokens() < 1 {
		return from, lastWrong
	}
	return from, wrong
}

// maxWaitingBody is what a request may have as its body while it waits for its turn. There may be many.
const maxWaitingBody = 16 << 10

// readBody reads r's body, which r.Body then returns again, and lets r wait for as long as its client does.
func readBody(w http.ResponseWriter, r *http.Request) {
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxWaitingBody))
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // its end would look like the client's
	r.Body = &readAgain{Reader: bytes.NewReader(content), err: err, Closer: r.Body}
}

// readAgain returns what was read of a body, and then the error with which that ended.
type readAgain struct {
	*bytes.Reader
	err error
	io.Closer
}

func (b *readAgain) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF && b.err != nil {
		err = b.err
	}
	return n, err
}

// addressOf is whose guesses are counted together: an address, or the network that an IPv6 client has
// for itself. Clients of a Unix socket are one.
func addressOf(r *http.Request) netip.Addr {
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
