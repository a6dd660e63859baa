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

// read wraps a handler that changes nothing.
func (a *api) read(h http.HandlerFunc) http.Handler {
	return only(http.MethodGet, func(w http.ResponseWriter, r *http.Request) {
		if !a.Proxy.ProtectReads() || a.authorized(w, r) {
			h(w, r)
		}
	})
}

// write wraps a handler that changes state.
func (a *api) write(method string, h http.HandlerFunc) http.Handler {
	return only(method, func(w http.ResponseWriter, r *http.Request) {
		if a.authorized(w, r) {
			h(w, r)
		}
	})
}

// authorized reports whether r carries the token, and responds with a problem if it does not.
func (a *api) authorized(w http.ResponseWriter, r *http.Request) bool {
	token, err := a.token()
	switch {
	case err != nil:
		writeProblem(w, http.StatusForbidden, "the proxy cannot read its token, see its log")
		return false
	case token == "":
		writeProblem(w, http.StatusForbidden, "no token is configured: set admin.token_file or CBPROXY_ADMIN_TOKEN")
		return false
	}
	if r.Header.Get("Authorization") != "" {
		switch verdict := a.auth.judge(r, token, func() { readBody(w, r) }); verdict {
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

// token returns the token, "" if none is configured. It logs only the first failure to read it and the recovery.
func (a *api) token() (string, error) {
	token, err := a.Proxy.Token()
	if failed := err != nil; a.tokenless.Swap(failed) != failed {
		if failed {
			a.Logger.Error("cannot read the admin token, rejecting requests", "error", err)
		} else {
			a.Logger.Info("admin token readable again")
		}
	}
	return token, err
}

// carries reports whether r carries the token.
func carries(r *http.Request, token string) bool {
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "Bearer") && same(strings.TrimSpace(given), token)
}

// same compares in constant time; it does not even reveal the lengths.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// Limits on wrong tokens per client address.
const (
	authBurst     = 20                    // wrong tokens at once
	authRate      = 5                     // wrong tokens per second after that; above it, comparisons are serialized
	authPace      = 10 * time.Millisecond // between two serialized comparisons
	authAddresses = 4096                  // addresses tracked at most
)

// verdict is the result of comparing a token.
type verdict int

const (
	wrong     verdict = iota
	lastWrong         // wrong, and the next comparison is delayed
	right
	tooMany // wrong, as were too many before
	gone    // the client disconnected before the comparison
)

// authLimiter limits how fast tokens can be tried. Once an address has sent too many wrong ones, its tokens are compared one
// at a time, authPace apart, in order of arrival. Each token is compared, so that a valid token from the same address is
// accepted. It is safe for concurrent use.
type authLimiter struct {
	mu      sync.Mutex
	clients *lru.LRU[netip.Addr, *authClient] // addresses that sent wrong tokens; guarded by mu
}

// authClient is an address that sent wrong tokens.
type authClient struct {
	limiter *rate.Limiter
	turn    chan struct{} // full while the next comparison must wait; waiters proceed in order of arrival
}

func newAuthLimiter() *authLimiter {
	clients, _ := lru.NewLRU[netip.Addr, *authClient](authAddresses, nil) // fails only for a size of 0
	return &authLimiter{clients: clients}
}

// judge compares r's token. After too many wrong ones from the address it waits for its turn. It calls readBody before,
// because net/http detects a disconnected client only once the body is read.
func (l *authLimiter) judge(r *http.Request, token string, readBody func()) verdict {
	from, v := l.compareAtOnce(r, token)
	if v != tooMany {
		return v
	}
	readBody()
	select {
	case from.turn <- struct{}{}:
	case <-r.Context().Done():
		return gone
	}
	time.AfterFunc(authPace, func() { <-from.turn })
	if carries(r, token) {
		return right
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if from.limiter.Tokens() > -authBurst {
		from.limiter.Reserve() // further wrong tokens keep the address limited
	}
	return tooMany
}

// compareAtOnce compares r's token unless its address is limited; then it returns tooMany.
func (l *authLimiter) compareAtOnce(r *http.Request, token string) (from *authClient, v verdict) {
	address := addressOf(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	from, known := l.clients.Get(address)
	if known && from.limiter.Tokens() < 1 {
		return from, tooMany
	}
	if carries(r, token) {
		return from, right
	}
	if !known {
		from = &authClient{limiter: rate.NewLimiter(authRate, authBurst), turn: make(chan struct{}, 1)}
		l.clients.Add(address, from)
	}
	if from.limiter.Allow(); from.limiter.Tokens() < 1 {
		return from, lastWrong
	}
	return from, wrong
}

// maxWaitingBody limits the body of a request that waits for its turn, as many may wait.
const maxWaitingBody = 16 << 10

// readBody buffers r's body and removes the read deadline, so that r can wait as long as its client does.
func readBody(w http.ResponseWriter, r *http.Request) {
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxWaitingBody))
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // an expired deadline would look like a disconnected client
	r.Body = &bufferedBody{Reader: bytes.NewReader(content), err: err, Closer: r.Body}
}

// bufferedBody replays a body that was read, and then the error that ended it.
type bufferedBody struct {
	*bytes.Reader
	err error
	io.Closer
}

func (b *bufferedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF && b.err != nil {
		err = b.err
	}
	return n, err
}

// addressOf returns the key by which wrong tokens are counted: an IPv4 address or the /64 network of an IPv6 address. All
// clients of a Unix socket have the same key.
func addressOf(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	address := peer.Addr().Unmap().WithZone("")
	if address.Is6() {
		network, _ := address.Prefix(64) // cannot fail for IPv6
		return network.Addr()
	}
	return address
}
