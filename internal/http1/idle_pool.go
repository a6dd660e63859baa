package http1

import (
	"sync"
	"time"
)

// idlePool has the idle connections of a Transport. It hands out the most recently used one first. It is safe for concurrent
// use.
type idlePool struct {
	maxIdle int
	timeout time.Duration

	mu      sync.Mutex  // guards the following fields
	conns   []*conn     // in the order in which they became idle
	sweeper *time.Timer // runs sweep; nil while the pool is empty
}

const (
	sweepInterval = 5 * time.Second
	sweepBatch    = 32 // limits how many connections are out of the pool at once during a sweep
)

// take returns a usable connection, or nil if there is none.
func (p *idlePool) take() *conn {
	for {
		p.mu.Lock()
		last := len(p.conns) - 1
		if last < 0 {
			p.mu.Unlock()
			return nil
		}
		c := p.conns[last]
		p.conns[last] = nil
		p.conns = p.conns[:last]
		p.mu.Unlock()
		if c.direct && !p.expired(c, time.Now()) || p.usable(c, time.Now()) { // a direct connection is checked in writeRequest
			return c
		}
		c.close()
	}
}

func (p *idlePool) expired(c *conn, now time.Time) bool { return now.Sub(c.idleSince) >= p.timeout }

// usable reports whether c can carry another request. The upstream may have closed it at any time (RFC 9112, section 9.5).
func (p *idlePool) usable(c *conn, now time.Time) bool { return !p.expired(c, now) && c.isQuiet() }

// put adds a connection that has become idle, or closes it if the pool is full.
func (p *idlePool) put(c *conn) {
	c.idleSince = time.Now()
	p.mu.Lock()
	kept := len(p.conns) < p.maxIdle
	if kept {
		p.conns = append(p.conns, c)
		if p.sweeper == nil {
			p.sweeper = time.AfterFunc(sweepInterval, p.sweep)
		}
	}
	p.mu.Unlock()
	if !kept {
		c.close()
	}
}

// sweep closes connections that have expired or that the upstream has closed. It schedules itself again unless the pool is
// empty.
func (p *idlePool) sweep() {
	now := time.Now()
	p.mu.Lock()
	unchecked := len(p.conns)
	p.mu.Unlock()
	for unchecked > 0 {
		p.mu.Lock()
		n := min(unchecked, sweepBatch, len(p.conns))
		batch := append([]*conn(nil), p.conns[:n]...)
		p.conns = append(p.conns[:0], p.conns[n:]...)
		p.mu.Unlock()
		unchecked -= max(n, 1)
		p.putBack(batch, now)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.conns) == 0 {
		p.sweeper = nil
		return
	}
	p.sweeper.Reset(sweepInterval)
}

// putBack returns the usable connections of a batch to the front of the pool, because they are the oldest, and closes the
// rest.
func (p *idlePool) putBack(batch []*conn, now time.Time) {
	kept := batch[:0]
	for _, c := range batch {
		if p.usable(c, now) {
			kept = append(kept, c)
		} else {
			c.close()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(kept, p.conns...)
}

// closeAll empties the pool. It closes the connections on another goroutine: closing a TLS connection writes to the peer and
// can block.
func (p *idlePool) closeAll() {
	p.mu.Lock()
	all := p.conns
	p.conns = nil
	p.mu.Unlock()
	if len(all) == 0 {
		return
	}
	go func() {
		for _, c := range all {
			c.close()
		}
	}()
}
