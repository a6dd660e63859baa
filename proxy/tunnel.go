package proxy

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// tunnel is the upstream's connection once it has been switched to another protocol.
// Whatever either side says sets the clock anew; both silent for idle_timeout ends it. The
// two directions are used by two goroutines.
type tunnel struct {
	io.ReadWriteCloser
	x    *exchange
	idle time.Duration

	opened        time.Time
	read, written atomic.Int64 // bytes of the upstream's and for it
}

// openTunnel makes c, which came with res, the exchange's tunnel.
func (x *exchange) openTunnel(res *http.Response, c io.ReadWriteCloser) {
	t := &tunnel{ReadWriteCloser: c, x: x, idle: x.route.config.IdleTimeout, opened: time.Now()}
	res.Body = t
	x.route.tunnels.Add(1)
	x.answered = true
	x.tunnel.Store(t)
	x.setClock(t.idle)
}

func (t *tunnel) Read(p []byte) (int, error) {
	n, err := t.ReadWriteCloser.Read(p)
	t.read.Add(int64(n))
	t.x.setClock(t.idle)
	return n, err
}

func (t *tunnel) Write(p []byte) (int, error) {
	n, err := t.ReadWriteCloser.Write(p)
	t.written.Add(int64(n))
	t.x.setClock(t.idle)
	return n, err
}

// CloseWrite passes on that the client will say no more; the upstream may still.
func (t *tunnel) CloseWrite() error {
	half, ok := t.ReadWriteCloser.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}
