// Package tunnel is the connections of a request after a switch of protocols, as for WebSocket.
package tunnel

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// Config configures a Tunnel.
type Config struct {
	// Upstream is the upstream's connection.
	Upstream io.ReadWriteCloser
	// SetWriteDeadline sets the write deadline of Upstream; nil: it has none.
	SetWriteDeadline func(time.Time) error
	// IdleTimeout is the longest time for which a side may read nothing of what the other sends.
	IdleTimeout time.Duration
	// OnData is called after each read and write of Upstream.
	OnData func()
}

// Tunnel is the upstream's connection of a request, together with the client's. Each direction has a goroutine.
type Tunnel struct {
	config Config
	// Opened is when the protocol was switched.
	Opened        time.Time
	read, written atomic.Int64

	client atomic.Pointer[net.Conn] // nil: it is not hijacked yet
	ended  atomic.Bool
}

// New returns a tunnel without the client's connection, which Writer adds.
func New(c Config) *Tunnel { return &Tunnel{config: c, Opened: time.Now()} }

// BytesRead returns the number of bytes read from the upstream. Safe for concurrent use.
func (t *Tunnel) BytesRead() int64 { return t.read.Load() }

// BytesWritten returns the number of bytes written to the upstream. Safe for concurrent use.
func (t *Tunnel) BytesWritten() int64 { return t.written.Load() }

// End closes both connections. Safe for concurrent use.
func (t *Tunnel) End() {
	t.ended.Store(true) // before client is read, see attach
	_ = t.Close()
	if c := t.client.Load(); c != nil {
		_ = (*c).Close()
	}
}

// attach sets the client's connection.
func (t *Tunnel) attach(c net.Conn) {
	t.client.Store(&c)
	if t.ended.Load() {
		_ = c.Close()
	}
}

// Read reads from the upstream.
func (t *Tunnel) Read(p []byte) (int, error) {
	n, err := t.config.Upstream.Read(p)
	t.read.Add(int64(n))
	t.config.OnData()
	return n, err
}

// Write writes to the upstream.
func (t *Tunnel) Write(p []byte) (int, error) {
	n, err := writeWithin(t.config.Upstream, p, t.config.IdleTimeout, t.config.SetWriteDeadline)
	t.written.Add(int64(n))
	t.config.OnData()
	return n, err
}

// Close closes the upstream's connection.
func (t *Tunnel) Close() error { return t.config.Upstream.Close() }

// CloseWrite signals the end of the client's data to the upstream, which may still send.
func (t *Tunnel) CloseWrite() error { return closeWrite(t.config.Upstream) }

func closeWrite(c io.Closer) error {
	half, ok := c.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

// writeWithin writes p, with progress at least once in each idle. setDeadline sets the write deadline; nil: there is none.
func writeWithin(w io.Writer, p []byte, idle time.Duration, setDeadline func(time.Time) error) (written int, err error) {
	for {
		if setDeadline != nil {
			_ = setDeadline(time.Now().Add(idle)) // the write to a closed connection fails anyway
		}
		n, err := w.Write(p[written:])
		written += n
		if n == 0 || written == len(p) || !errors.Is(err, os.ErrDeadlineExceeded) {
			return written, err
		}
	}
}
