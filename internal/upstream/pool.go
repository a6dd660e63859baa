package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
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
	// Address, if it is valid, is dialed instead of the host of URL, of which it is one address.
	Address netip.Addr
	// TLS returns the TLS configuration of a new connection. It is called for https only, and its result is not modified.
	TLS func() *tls.Config
	// PingInterval is the time without a received frame after which an HTTP/2 connection is checked with a PING frame; 0 disables
	// the check.
	PingInterval time.Duration
}

// hostToDial returns address, which is host:port, with the configured Address as its host if there is one.
func (c *Config) hostToDial(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil || !c.Address.IsValid() {
		return address
	}
	return net.JoinHostPort(c.Address.String(), port)
}

// Pool holds the connections to one upstream. It is safe for concurrent use.
type Pool struct {
	scheme      string
	transport   replaceableTransport
	fast        *http1.Transport // for plain HTTP/1.1 requests; nil if the upstream uses HTTP/2 only
	speaksHTTP1 atomic.Bool      // the upstream is known to use HTTP/1.1
	discardedAt atomic.Int64     // time of the last DiscardConnections, by elapsed
}

// New returns a pool without connections.
func New(c Config) *Pool {
	p := &Pool{scheme: c.URL.Scheme}
	d := &dialer{HTTP2: p.scheme == "h2c"}
	p.transport.init(newTransport(&c, d))
	if p.scheme != "h2c" {
		p.fast = newFastTransport(&c, d)
		p.speaksHTTP1.Store(p.scheme == "http")
	}
	return p
}

// newTransport returns the http.Transport of a pool.
func newTransport(c *Config, d *dialer) *http.Transport {
	dial := func(ctx context.Context, address string) (*Conn, error) {
		conn, err := d.dial(ctx, c.hostToDial(address))
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
	switch c.URL.Scheme {
	case "h2c":
		t.Protocols.SetUnencryptedHTTP2(true)
	case "http":
		t.Protocols.SetHTTP1(true)
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
	}
	return t
}

// newFastTransport returns the transport of a pool for plain HTTP/1.1 requests.
func newFastTransport(c *Config, d *dialer) *http1.Transport {
	address := dialAddress(c.URL)
	t := http1.TransportConfig{MaxIdle: maxIdlePerUpstream, IdleTimeout: idleTimeout, MaxHeaderBytes: maxResponseHeader}
	t.Dial = func(ctx context.Context) (net.Conn, error) {
		conn, err := d.dial(ctx, c.hostToDial(address))
		if err != nil || c.URL.Scheme == "http" {
			return conn, err
		}
		return tlsHandshakeHTTP1(ctx, conn, c.TLS(), address)
	}
	return http1.NewTransport(t)
}

// CanSendFast reports whether r can be sent by RoundTripFast once its whole body has arrived: it is a plain request, and the
// upstream uses HTTP/1.1. Over TLS the latter is unknown before the first response by RoundTrip.
func (p *Pool) CanSendFast(r *http.Request) bool {
	return p.fast != nil && p.speaksHTTP1.Load() && http1.CanSend(r)
}

// errHTTP2 is the error of a fast-path dial: the upstream negotiated HTTP/2, although it used HTTP/1.1 before.
var errHTTP2 = errors.New("the upstream negotiated HTTP/2")

// RoundTripFast sends a request that CanSendFast accepts, on the caller's goroutine. sent is false if nothing was sent because
// the upstream now uses HTTP/2; r must then be sent by RoundTrip.
func (p *Pool) RoundTripFast(r *http.Request) (res *http.Response, sent bool, err error) {
	res, err = p.fast.RoundTrip(r)
	if err == errHTTP2 {
		p.speaksHTTP1.Store(false)
		return nil, false, nil
	}
	return res, true, err
}

// RoundTrip sends a request with http.Transport. If the response has no content because of its method or status, its body is
// http.NoBody, see dropBody.
func (p *Pool) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := p.transport.current().RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if p.fast != nil && res.ProtoMajor == 1 && res.StatusCode != http.StatusSwitchingProtocols {
		p.speaksHTTP1.Store(true)
	}
	dropBody(r.Method, res)
	return res, nil
}

// dropBody makes http.NoBody the body of a response whose Content-Length is that of another response: to HEAD, it is the length
// of the response to GET, and with status 304 that of the response with status 200 (RFC 9110, section 8.6). Over HTTP/2,
// http.Transport returns a body of another type, which with status 304 reports the missing content as a truncation. A stream that
// has not ended is reset, unless its response has no Content-Length: its upload may still be in progress.
func dropBody(method string, res *http.Response) {
	noContent := res.StatusCode == http.StatusNoContent || res.StatusCode == http.StatusNotModified
	if method == http.MethodHead || noContent && res.ContentLength > 0 {
		_ = res.Body.Close()
		res.Body = http.NoBody
	}
}

// MayMultiplex reports whether a new request may share an HTTP/2 connection with other requests.
func (p *Pool) MayMultiplex() bool { return p.fast == nil || !p.speaksHTTP1.Load() }

// ConnBelowTLS returns the connection below TLS, or c if it does not use TLS. multiplexed reports whether several requests can be
// in flight on c, as over HTTP/2.
func (p *Pool) ConnBelowTLS(c net.Conn) (conn net.Conn, multiplexed bool) {
	if t, ok := c.(tlsConn); ok {
		return t.NetConn(), t.ConnectionState().NegotiatedProtocol == "h2"
	}
	return c, p.scheme == "h2c"
}

// DiscardConnections makes requests use new connections from now on. It closes idle connections, without waiting for that; a
// connection in use is closed after its last request.
func (p *Pool) DiscardConnections() {
	p.discardedAt.Store(elapsed())
	p.transport.replace()
	if p.fast != nil {
		p.fast.CloseIdleConnections()
	}
}

// DiscardConnectionsOnceSince is DiscardConnections, unless that has been called since start. It is called after a request that
// was sent at start has timed out on a connection on which nothing was received: a peer behind a TCP proxy may be unreachable
// while the connection stays open.
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
