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
	maxIdlePerUpstream = 8192 // no connection is opened twice below as many concurrent requests
	idleTimeout        = 90 * time.Second
	handshakeTimeout   = 10 * time.Second
	pingTimeout        = 5 * time.Second
	continueTimeout    = time.Second // RFC 9110, section 10.1.1: wait for a final response before the body is sent
	maxResponseHeader  = 1 << 20     // bytes of a response's header section
)

// Config is what a Pool is made from.
type Config struct {
	// URL is the upstream's. Its scheme is http, https or h2c.
	URL *url.URL
	// TLS returns what a new connection is secured with, where the scheme is https. The result is not modified.
	TLS func() *tls.Config
	// PingInterval is after how much silence a connection of HTTP/2 is checked by a ping. 0: never.
	PingInterval time.Duration
}

// Pool is the connections to one upstream. Safe for concurrent use.
type Pool struct {
	scheme    string
	transport renewable
	fast      *http1.Transport // of plain HTTP/1.1 requests; nil: the upstream speaks HTTP/2 only
	http1     atomic.Bool      // the upstream is known to respond by HTTP/1.1
	renewed   atomic.Int64     // time of the last renewal, by elapsed
}

// New returns a pool that has no connection yet.
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
		p.http1.Store(true)
		fast.Dial = func(ctx context.Context) (net.Conn, error) { return dialer.Dial(ctx, address) }
	default:
		t.Protocols.SetHTTP1(true)
		t.Protocols.SetHTTP2(true)
		t.DialTLSContext = func(ctx context.Context, _, address string) (net.Conn, error) {
			conn, err := dial(ctx, address)
			if err != nil {
				return nil, err
			}
			return secureForTransport(ctx, conn, c.TLS(), address)
		}
		fast.Dial = func(ctx context.Context) (net.Conn, error) {
			conn, err := dialer.Dial(ctx, address)
			if err != nil {
				return nil, err
			}
			return secureForHTTP1(ctx, conn, c.TLS(), address)
		}
	}
	p.fast = http1.NewTransport(fast)
	return p
}

// HasFastPath reports whether the upstream may be sent requests by RoundTripFast.
func (p *Pool) HasFastPath() bool { return p.fast != nil }

// TakesFast reports whether r can be sent by RoundTripFast, once the client has sent all of its body: it is plain, and the
// upstream responds by HTTP/1.1, which one behind TLS is known to do only after a response by RoundTrip.
func (p *Pool) TakesFast(r *http.Request) bool {
	return p.fast != nil && p.http1.Load() && http1.CanSend(r)
}

// errHTTP2 is why a request can't take the fast path: an upstream behind TLS has come to prefer HTTP/2.
var errHTTP2 = errors.New("the upstream speaks HTTP/2 now")

// RoundTripFast sends a request that TakesFast accepts on the caller's goroutine. sent is false if r has to be sent by
// RoundTrip, from the start of its body, because the upstream speaks HTTP/2 now.
func (p *Pool) RoundTripFast(r *http.Request) (res *http.Response, sent bool, err error) {
	res, err = p.fast.RoundTrip(r)
	if err == errHTTP2 {
		p.http1.Store(false)
		return nil, false, nil
	}
	return res, true, err
}

// RoundTrip sends a request by http.Transport.
func (p *Pool) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := p.transport.current().RoundTrip(r)
	if p.fast != nil && err == nil && res.ProtoMajor == 1 && res.StatusCode != http.StatusSwitchingProtocols {
		p.http1.Store(true)
	}
	return res, err
}

// MayMultiplex reports whether a new request may share an HTTP/2 connection with other requests.
func (p *Pool) MayMultiplex() bool { return p.fast == nil || !p.http1.Load() }

// Unwrap returns the connection below TLS, if c is TLS, and whether requests share c, as those of HTTP/2 do.
func (p *Pool) Unwrap(c net.Conn) (below net.Conn, shared bool) {
	if t, ok := c.(tlsConn); ok {
		return t.NetConn(), t.ConnectionState().NegotiatedProtocol == "h2"
	}
	return c, p.scheme == "h2c"
}

// Renew makes requests use new connections from now on. A connection in use ends after its last request. It does not wait.
func (p *Pool) Renew() {
	p.renewed.Store(elapsed())
	p.transport.renew()
	if p.fast != nil {
		p.fast.CloseIdleConnections()
	}
}

// RenewAfterSilence renews the pool after a request that was sent at start has timed out on a connection on which nothing
// has arrived since. A peer behind a TCP proxy may be gone without a sign.
func (p *Pool) RenewAfterSilence(start time.Time) {
	if p.renewed.Load() < int64(start.Sub(processStart)) {
		p.Renew()
	}
}

// Close closes the connections that are not in use. It does not wait for that.
func (p *Pool) Close() {
	p.transport.close()
	if p.fast != nil {
		p.fast.CloseIdleConnections()
	}
}

var processStart = time.Now()

// elapsed is a monotonic clock in nanoseconds.
func elapsed() int64 { return int64(time.Since(processStart)) }
