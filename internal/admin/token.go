package admin

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"
)

// read wraps a handler that changes nothing.
func (a *api) read(h http.HandlerFunc) http.Handler { return a.readBy(http.MethodGet, h) }

// readBy wraps a handler of another method than GET that changes nothing.
func (a *api) readBy(method string, h http.HandlerFunc) http.Handler {
	return only(method, func(w http.ResponseWriter, r *http.Request) {
		if !a.Backend.ProtectReads() || a.authorized(w, r) {
			h(w, r)
		}
	})
}

// readOrWrite wraps a handler that changes nothing, and those for the methods that change state.
func (a *api) readOrWrite(read http.HandlerFunc, writes map[string]http.HandlerFunc) http.Handler {
	allowed := append([]string{http.MethodGet, http.MethodHead}, slices.Sorted(maps.Keys(writes))...)
	return allow(allowed, func(w http.ResponseWriter, r *http.Request) {
		if write := writes[r.Method]; write != nil {
			a.write(r.Method, write).ServeHTTP(w, r)
			return
		}
		a.read(read).ServeHTTP(w, r)
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
		writeProblem(w, http.StatusForbidden, "the proxy cannot read its admin token, see the log of the proxy")
		return false
	case token == "":
		writeProblem(w, http.StatusForbidden, "no token is configured: set admin.token_file or CBPROXY_ADMIN_TOKEN")
		return false
	}
	if r.Header.Get("Authorization") != "" {
		switch result := a.auth.check(r, token, func() { readBody(w, r) }); result {
		case validToken:
			return true
		case disconnected:
			writeProblem(w, http.StatusServiceUnavailable, "the client disconnected before its token was compared")
			return false
		case rateLimited:
			w.Header().Set("Retry-After", "1")
			writeProblem(w, http.StatusTooManyRequests, "the token is wrong, and this address has sent too many wrong tokens")
			return false
		default:
			a.audit(r, action{Action: "refused", Error: "wrong token"}, "path", r.URL.Path, "more_are_not_logged", result == lastWrongToken)
		}
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="cbproxy admin"`)
	writeProblem(w, http.StatusUnauthorized, "the request must have the header Authorization: Bearer TOKEN with the admin token")
	return false
}

// token returns the token, or "" if none is configured. It logs the first of consecutive failures to read the token, and the
// recovery.
func (a *api) token() (string, error) {
	token, err := a.Backend.Token()
	if failed := err != nil; a.tokenFailed.Swap(failed) != failed {
		if failed {
			a.Logger.Error("cannot read the admin token, rejecting requests", "error", err)
		} else {
			a.Logger.Info("admin token readable again")
		}
	}
	return token, err
}

// carriesToken reports whether r carries the token.
func carriesToken(r *http.Request, token string) bool {
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "Bearer") && constantTimeEqual(strings.TrimSpace(given), token)
}

// constantTimeEqual compares a and b. Its duration reveals neither where they differ nor whether their lengths differ.
func constantTimeEqual(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// Limits on wrong tokens per client address.
const (
	authBurst     = 20                    // wrong tokens in a burst
	authRate      = 5                     // wrong tokens per second after that; above it, comparisons are serialized
	authPace      = 10 * time.Millisecond // between two serialized comparisons
	authAddresses = 4096                  // addresses tracked at most
)

// tokenResult is the result of comparing a token.
type tokenResult int

const (
	wrongToken     tokenResult = iota
	lastWrongToken             // wrong, and further tokens from the address are delayed
	validToken
	rateLimited  // wrong, after too many wrong tokens from the address
	disconnected // the client disconnected before the comparison
)

// authLimiter limits the rate of attempts to guess the token. Once an address has sent too many wrong tokens, its tokens are
// compared one at a time, in order of arrival, at intervals of authPace. Every token is compared, so that the right token is
// accepted from the same address. It is safe for concurrent use.
type authLimiter struct {
	mu      sync.Mutex
	clients *lru.LRU[netip.Addr, *authClient] // addresses that sent wrong tokens; guarded by mu
}

// authClient is an address that sent wrong tokens.
type authClient struct {
	limiter *rate.Limiter
	slot    chan struct{} // has capacity 1; full until the next comparison may start
}

func newAuthLimiter() *authLimiter {
	clients, _ := lru.NewLRU[netip.Addr, *authClient](authAddresses, nil) // fails only for a size of 0
	return &authLimiter{clients: clients}
}

// check compares r's token. If the address has sent too many wrong tokens, it waits until previous comparisons are done. It
// calls readBody before it waits, because net/http detects a disconnected client only once the body is read.
func (l *authLimiter) check(r *http.Request, token string, readBody func()) tokenResult {
	client, result := l.checkAtOnce(r, token)
	if result != rateLimited {
		return result
	}
	readBody()
	select {
	case client.slot <- struct{}{}:
	case <-r.Context().Done():
		return disconnected
	}
	time.AfterFunc(authPace, func() { <-client.slot })
	if carriesToken(r, token) {
		return validToken
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if client.limiter.Tokens() > -authBurst {
		client.limiter.Reserve() // further wrong tokens keep the address limited
	}
	return rateLimited
}

// checkAtOnce compares r's token, or returns rateLimited if its address must wait. It never blocks.
func (l *authLimiter) checkAtOnce(r *http.Request, token string) (client *authClient, result tokenResult) {
	address := addressOf(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	client, known := l.clients.Get(address)
	if known && client.limiter.Tokens() < 1 {
		return client, rateLimited
	}
	if carriesToken(r, token) {
		return client, validToken
	}
	if !known {
		client = &authClient{limiter: rate.NewLimiter(authRate, authBurst), slot: make(chan struct{}, 1)}
		l.clients.Add(address, client)
	}
	if client.limiter.Allow(); client.limiter.Tokens() < 1 {
		return client, lastWrongToken
	}
	return client, wrongToken
}

// maxWaitingBody limits the memory of a waiting request in bytes, as many requests may wait.
const maxWaitingBody = 16 << 10

// readBody buffers r's body and removes the read deadline, so that r can wait until its client disconnects.
func readBody(w http.ResponseWriter, r *http.Request) {
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxWaitingBody))
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // an expired deadline would look like a disconnected client
	r.Body = &bufferedBody{Reader: bytes.NewReader(content), err: err, Closer: r.Body}
}

// bufferedBody is a body that was read in advance. After its content it returns err, the error of that read.
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
