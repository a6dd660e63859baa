package proxy

import (
	"bufio"
	"cbproxy/internal/upstream"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// tunnel is the upstream's connection after a switch of protocols. All data from either side resets the timer. If both sides
// are silent for idle_timeout, or one reads nothing for as long, both connections are closed. Each direction has a goroutine.
type tunnel struct {
	io.ReadWriteCloser
	x        *exchange
	upstream *upstream.Conn // the connection of ReadWriteCloser; nil: unknown
	idle     time.Duration

	opened        time.Time
	read, written atomic.Int64 // bytes from the upstream and to it

	client atomic.Pointer[net.Conn] // nil: it is not hijacked yet
	ended  atomic.Bool
}

// openTunnel makes c, the connection of res, the exchange's tunnel.
func (x *exchange) openTunnel(res *http.Response, c io.ReadWriteCloser) {
	t := &tunnel{ReadWriteCloser: c, x: x, upstream: x.attempt.conn, idle: x.route.config.IdleTimeout, opened: time.Now()}
	if t.upstream != nil {
		t.upstream.BeginTunnel()
	}
	res.Body = t
	x.route.tunnels.Add(1)
	x.answered = true
	x.tunnel.Store(t)
	x.resetTimer(t.idle)
}

// end closes both connections. Safe for concurrent use.
func (t *tunnel) end() {
	t.ended.Store(true) // before client is read, see attach
	_ = t.Close()
	if c := t.client.Load(); c != nil {
		_ = (*c).Close()
	}
}

// attach sets the tunnel's connection to the client.
func (t *tunnel) attach(c net.Conn) {
	t.client.Store(&c)
	if t.ended.Load() {
		_ = c.Close()
	}
}

func (t *tunnel) Read(p []byte) (int, error) {
	n, err := t.ReadWriteCloser.Read(p)
	t.read.Add(int64(n))
	t.x.resetTimer(t.idle)
	return n, err
}

func (t *tunnel) Write(p []byte) (int, error) {
	var limit func(time.Time) error
	if t.upstream != nil {
		limit = t.upstream.SetWriteDeadline
	}
	n, err := writeWithin(t.ReadWriteCloser, p, t.idle, limit)
	t.written.Add(int64(n))
	t.x.resetTimer(t.idle)
	return n, err
}

// CloseWrite signals the end of the client's data to the upstream, which may still send.
func (t *tunnel) CloseWrite() error {
	half, ok := t.ReadWriteCloser.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

// writeWithin writes p, with progress at least once in each idle. limit sets the write deadline; nil: there is none.
func writeWithin(w io.Writer, p []byte, idle time.Duration, limit func(time.Time) error) (written int, err error) {
	for {
		if limit != nil {
			_ = limit(time.Now().Add(idle)) // the write to a closed connection fails anyway
		}
		n, err := w.Write(p[written:])
		written += n
		if n == 0 || written == len(p) || !errors.Is(err, os.ErrDeadlineExceeded) {
			return written, err
		}
	}
}

// upgradeWriter is the ResponseWriter of a request that may become a tunnel. ReverseProxy would lose what the client has sent
// before the response, and has no time limits.
type upgradeWriter struct {
	http.ResponseWriter
	x *exchange
}

// Unwrap implements the method that http.ResponseController calls.
func (w *upgradeWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack implements http.Hijacker.
func (w *upgradeWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	t := w.x.tunnel.Load()
	t.attach(c)
	return &tunnelClient{c, buffered.Reader, t}, buffered, nil
}

// tunnelClient is the client's connection of a tunnel.
type tunnelClient struct {
	net.Conn
	early *bufio.Reader // what the client has sent before the response
	t     *tunnel
}

func (c *tunnelClient) Read(p []byte) (int, error) {
	if n := c.early.Buffered(); n > 0 {
		return c.early.Read(p[:min(n, len(p))])
	}
	return c.Conn.Read(p)
}

func (c *tunnelClient) Write(p []byte) (int, error) {
	return writeWithin(c.Conn, p, c.t.idle, c.Conn.SetWriteDeadline)
}

// CloseWrite signals the end of the upstream's data to the client, which may still send.
func (c *tunnelClient) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}
