package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"cbproxy/internal/http1"
)

// Limits of a pool, sized for a sidecar: few upstreams, many requests each.
const (
	maxIdlePerUpstream = 8192 // with fewer concurrent requests, all connections are reused
	idleTimeout        = 90 * time.Second
	handshakeTimeout   = 10 * time.Second
	pingTimeout        = 5 * time.Second
	continueTimeout    = time.Second // after which the body is sent without a 100 (RFC 9110, section 10.1.1)
	maxResponseHeader  = 1 << 20     // bytes of a response's header section
)

// Config configures a Pool.
type Config struct {
	// URL is the URL of the upstream. Its scheme is http, https or h2c.
	URL *url.URL
	// TLS returns the TLS configuration of a new connection. It is called for https only, and its result is not modified.
	TLS func() *tls.Config
	// PingInterval is the time without a received frame after which an HTTP/2 connection is checked with a PING frame; 0 disables
	// the check.
	PingInterval time.Duration
}

// Pool holds the connections to one upstream. It is safe for concurrent use.
type Pool struct {
	scheme      string
	transport   replaceableTransport
	fast        *http1.Transport // for plain HTTP/1.1 requests; nil if the upstream uses HTTP/2 only
	speaksHTTP1 atomic.Bool      // the upstream is known to use HTTP/1.1
	discardedAt atomic.Int64     // time of the last renewal, by elapsed
}

// New returns a pool without connections.
func New(c Config) *Pool {
	dialer := &Dialer{HTTP2: c.URL.Scheme == "h2c"}
	dial := func(ctx context.Context, address string) (*Conn, error) {
		conn, err := dialer.Dial(ctx, address)
		if err != nil {
			return nil, err
		}
		return &Conn{Conn: conn}, nil
	}
	t := &http.Transport{
		DialContext:            func(ctx context.Context, _, address string) (net.Conn, error) { return dial(ctx, address) },
		Protocols:              new(http.Protocols),
		DisableCompression:     true, // the client's Accept-Encoding decides
		MaxIdleConnsPerHost:    maxIdlePerUpstream,
		IdleConnTimeout:        idleTimeout,
		ExpectContinueTimeout:  continueTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: c.PingInterval, PingTimeout: pingTimeout},
	}
	p := &Pool{scheme: c.URL.Scheme}
	p.transport.init(t)
	fast := http1.TransportConfig{MaxIdle: maxIdlePerUpstream, IdleTimeout: idleTimeout, MaxHeaderBytes: maxResponseHeader}
	address := dialAddress(c.URL)
	switch p.scheme {
	case "h2c":
		t.Protocols.SetUnencryptedHTTP2(true)
		return p
	case "http":
		t.Protocols.SetHTTP1(true)
		p.speaksHTTP1.Store(true)
		fast.Dial = func(ctx context.Context) (net.Conn, error) { return dialer.Dial(ctx, address) }
	default:
		t.Protocols.SetHTTP1(true)
		t.Protocols.SetHTTP2(true)
		t.DialTLSContext = func(ctx context.Context, _, address string) (net.Conn, error) {
			conn, err := dial(ctx, address)
			if err != nil {
				return nil, err
			}
			return tlsHandshakeForTransport(ctx, conn, c.TLS(), address)
		}
		fast.Dial = func(ctx context.Context) (net.Conn, error) {
			conn, err := dialer.Dial(ctx, address)
			if err != nil {
				return nil, err
			}
			return tlsHandshakeHTTP1(ctx, conn, c.TLS(), address)
		}
	}
	p.fast = http1.NewTransport(fast)
	return p
}

// CanSendFast reports whether r can be sent by RoundTripFast once its whole body has arrived: it is a plain request, and the
// upstream uses HTTP/1.1. Over TLS the latter is unknown before the first response by RoundTrip.
func (p *Pool) CanSendFast(r *http.Request) bool {
	return p.fast != nil && p.speaksHTTP1.Load() && http1.CanSend(r)
}

// errHTTP2 is the error of a fast-path dial: the upstream negotiated HTTP/2, although it used HTTP/1.1 before.
var errHTTP2 = errors.New("the upstream negotiated HTTP/2")

// RoundTripFast sends a request that CanSendFast accepts, on the caller's goroutine. sent is false if nothing was sent because the
// upstream now uses HTTP/2; r must then be sent by RoundTrip.
func (p *Pool) RoundTripFast(r *http.Request) (res *http.Response, sent bool, err error) {
	res, err = p.fast.RoundTrip(r)
	if err == errHTTP2 {
		p.speaksHTTP1.Store(false)
		return nil, false, nil
	}
	return res, true, err
}

// RoundTrip sends a request with http.Transport.
func (p *Pool) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := p.transport.current().RoundTrip(r)
	if p.fast != nil && err == nil && res.ProtoMajor == 1 && res.StatusCode != http.StatusSwitchingProtocols {
		p.speaksHTTP1.Store(true)
	}
	return res, err
}

// MayMultiplex reports whether a new request may share an HTTP/2 connection with other requests.
func (p *Pool) MayMultiplex() bool { return p.fast == nil || !p.speaksHTTP1.Load() }

// Unwrap returns the connection below TLS, or c if it does not use TLS, and whether requests share c, as over HTTP/2.
func (p *Pool) ConnBelowTLS(c net.Conn) (below net.Conn, shared bool) {
	if t, ok := c.(tlsConn); ok {
		return t.NetConn(), t.ConnectionState().NegotiatedProtocol == "h2"
	}
	return c, p.scheme == "h2c"
}

// DiscardConnections makes requests use new connections from now on. A connection in use ends after its last request. It does not wait.
func (p *Pool) DiscardConnections() {
	p.discardedAt.Store(elapsed())
	p.transport.replace()
	if p.fast != nil {
		p.fast.CloseIdleConnections()
	}
}

// DiscardConnectionsOnceSince renews the pool, unless it was renewed since start. It is called after a request that was sent at start has
// timed out on a connection that received nothing since: a peer behind a TCP proxy may be unreachable while the connection
// stays open.
func (p *Pool) DiscardConnectionsOnceSince(start time.Time) {
	if p.discardedAt.Load() < int64(start.Sub(processStart)) {
		p.DiscardConnections()
	}
}

// Close closes the idle connections. It does not wait for that.
func (p *Pool) Close() {
	p.transport.close()
	if p.fast != nil {
		p.fast.CloseIdleConnections()
	}
}

// processStart is the zero of elapsed.
var processStart = time.Now()

// elapsed returns the time since processStart in nanoseconds, by the monotonic clock.
func elapsed() int64 { return int64(time.Since(processStart)) }
