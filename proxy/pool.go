package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"golang.org/x/net/idna"

	"cbproxy/internal/http1"
	"cbproxy/internal/upstream"
	"cbproxy/routes"
)

// Connections to upstreams, sized for a sidecar: few upstreams, many requests each.
const (
	idlePerUpstream  = 8192 // no churn below as many concurrent requests
	idleTimeout      = 90 * time.Second
	handshakeTimeout = 10 * time.Second
	pingTimeout      = 5 * time.Second
	continueTimeout  = time.Second // RFC 9110, section 10.1.1: wait for a final answer before the body
	maxResponseBytes = 1 << 20     // of a response's header section
)

// pool is the connections to one upstream. Safe for concurrent use.
type pool struct {
	transport *upstream.Renewable
	direct    *http1.Transport // for plain requests; nil: the upstream doesn't speak HTTP/1.1
	http1     atomic.Bool      // the upstream is known to answer by HTTP/1.1
	key       poolKey
	renewed   atomic.Int64 // sinceStart of the last renewal
}

// poolKey is what a pool is made from: those with equal keys are interchangeable.
type poolKey struct {
	connections routes.ConnectionKey
	ping        time.Duration
}

// newPool returns an error if the files that secured names can't be used. A connection of HTTP/2 is asked for a sign of
// life after it has been silent for ping, if that is not 0.
func newPool(u routes.Upstream, secured routes.TLS, ping time.Duration, logger *slog.Logger) (*pool, error) {
	dialer := &upstream.Dialer{HTTP2: u.Scheme == "h2c"}
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return dialUpstream(ctx, dialer, address)
		},
		Protocols:              new(http.Protocols),
		DisableCompression:     true, // the client's Accept-Encoding decides
		MaxIdleConnsPerHost:    idlePerUpstream,
		IdleConnTimeout:        idleTimeout,
		ExpectContinueTimeout:  continueTimeout,
		MaxResponseHeaderBytes: maxResponseBytes,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: ping, PingTimeout: pingTimeout},
	}
	p := &pool{transport: upstream.NewRenewable(t), key: poolKey{u.ConnectionKey(secured), ping}}
	direct := http1.TransportConfig{MaxIdle: idlePerUpstream, IdleTimeout: idleTimeout, MaxHeaderBytes: maxResponseBytes}
	address := addressOf(u.URL)
	switch u.Scheme {
	case "h2c":
		t.Protocols.SetUnencryptedHTTP2(true)
		return p, nil
	case "http":
		t.Protocols.SetHTTP1(true)
		p.http1.Store(true)
		direct.Dial = func(ctx context.Context) (net.Conn, error) { return dialer.Dial(ctx, address) }
		p.direct = http1.NewTransport(direct)
		return p, nil
	}
	t.Protocols.SetHTTP1(true)
	t.Protocols.SetHTTP2(true)
	secure, err := newUpstreamTLS(secured, logger)
	if err != nil {
		return nil, err
	}
	t.DialTLSContext = func(ctx context.Context, _, address string) (net.Conn, error) {
		c, err := dialUpstream(ctx, dialer, address)
		if err != nil {
			return nil, err
		}
		return secure.transportClient(ctx, c, address)
	}
	direct.Dial = func(ctx context.Context) (net.Conn, error) {
		c, err := dialer.Dial(ctx, address)
		if err != nil {
			return nil, err
		}
		secured, err := secure.client(ctx, c, address)
		if err != nil {
			return nil, err
		}
		if _, http2 := upstream.Unwrap(secured, false); http2 {
			_ = secured.Close()
			return nil, errHTTP2
		}
		return secured, nil
	}
	p.direct = http1.NewTransport(direct)
	return p, nil
}

// errHTTP2 is why a request can't be sent directly: an upstream behind TLS has come to prefer HTTP/2.
var errHTTP2 = errors.New("the upstream speaks HTTP/2 now")

// addressOf returns what to dial for an upstream's URL.
func addressOf(u *url.URL) string {
	host := u.Hostname()
	if ascii, err := idna.Lookup.ToASCII(host); err == nil { // or it is an address, or will not be found
		host = ascii
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(host, port)
}

// renew makes requests use new connections from now on. A connection in use ends after its last request. It does not wait.
func (p *pool) renew() {
	p.renewed.Store(sinceStart())
	p.transport.Renew()
	if p.direct != nil {
		p.direct.CloseIdleConnections()
	}
}

// mayShare reports whether a new request may share a connection of HTTP/2 with others.
func (p *pool) mayShare() bool { return p.direct == nil || !p.http1.Load() }

// renewUnanswered renews the pool after a request that began at begin has got no answer in time on a connection on which
// nothing at all has come since. A peer behind a proxy of TCP may be gone without a sign.
func (p *pool) renewUnanswered(begin time.Time) {
	if p.renewed.Load() < int64(begin.Sub(start)) {
		p.renew()
	}
}

// close closes the connections that are not in use. It does not wait for that.
func (p *pool) close() {
	p.transport.Close()
	if p.direct != nil {
		p.direct.CloseIdleConnections()
	}
}

func dialUpstream(ctx context.Context, dialer *upstream.Dialer, address string) (net.Conn, error) {
	c, err := dialer.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	return &upstreamConn{Conn: c}, nil
}

// upstreamConn knows of the upload on it, which http.Transport does not tell apart from
// other requests.
//
// It keeps the answer of an upstream that answers and closes while the request is still
// being sent. Its write fails then, and http.Transport would report that and drop the
// answer; so once part of the request is out, a failed write counts as done, unless the
// transport itself has closed the connection, and what the upstream said, or that it said
// nothing, is found by reading.
type upstreamConn struct {
	net.Conn
	upload atomic.Pointer[attempt] // told if the connection ends; nil: the request has no body
	sent   atomic.Bool             // part of the request has been written
	heard  atomic.Int64            // sinceStart of the last read
	ended  atomic.Bool             // the upstream has ended it
	fields connectionFields        // of the response, where it is plain HTTP/1.1 or below a secureConn
}

// begin tells that the next request starts, before its first byte is written. upload is nil
// if it has no body.
func (c *upstreamConn) begin(upload *attempt) {
	c.ExpectResponse()
	c.sent.Store(false)
	c.upload.Store(upload)
}

func (c *upstreamConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.heard.Store(sinceStart())
	if !c.fields.below {
		c.fields.scan(p[:n])
	}
	if err != nil {
		c.ended.Store(!errors.Is(err, net.ErrClosed))
		if a := c.upload.Load(); a != nil {
			a.lost(err)
		}
	}
	return n, err
}

func (c *upstreamConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil && c.upload.Load() != nil && c.sent.Load() && !errors.Is(err, net.ErrClosed) {
		return len(p), nil
	}
	c.sent.Store(true)
	return n, err
}

// closeNotifyTimeout bounds how long a TLS connection's last record may take, whose write http.Transport waits for under
// the connection's lock.
const closeNotifyTimeout = 250 * time.Millisecond

// SetWriteDeadline sets a deadline that is at most closeNotifyTimeout away: only tls.Conn.Close sets one, of 5 s.
func (c *upstreamConn) SetWriteDeadline(t time.Time) error {
	if latest := time.Now().Add(closeNotifyTimeout); !t.IsZero() && t.After(latest) {
		t = latest
	}
	return c.Conn.SetWriteDeadline(t)
}

// CloseWrite is for tunnels: the end of what a client says is passed on, and the upstream
// may still answer.
func (c *upstreamConn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

var start = time.Now()

// sinceStart returns the nanoseconds since the process started, on the monotonic clock.
func sinceStart() int64 { return int64(time.Since(start)) }
