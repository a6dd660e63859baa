package http1

import (
	"sync"
	"time"
)

// idle is the connections that are not in use; the one that was used last is used next.
type idle struct {
	most    int
	timeout time.Duration

	mu      sync.Mutex
	conns   []*conn     // by the time at which they became idle
	sweeper *time.Timer // runs sweep while there are any
}

const (
	sweepEvery   = 5 * time.Second
	sweepAtATime = 32 // so that nobody has to dial meanwhile
)

// take returns a connection that is fit for another request, nil if there is none.
func (i *idle) take() *conn {
	for {
		i.mu.Lock()
		last := len(i.conns) - 1
		if last < 0 {
			i.mu.Unlock()
			return nil
		}
		c := i.conns[last]
		i.conns[last] = nil
		i.conns = i.conns[:last]
		i.mu.Unlock()
		if c.direct && i.young(c, time.Now()) || i.fit(c, time.Now()) { // a direct one looks for itself when it sends
			return c
		}
		c.close()
	}
}

func (i *idle) young(c *conn, now time.Time) bool { return now.Sub(c.since) < i.timeout }

// fit reports whether c may be used for another request. RFC 9112, section 9.5: it may have been closed at any time.
func (i *idle) fit(c *conn, now time.Time) bool { return i.young(c, now) && c.isQuiet() }

func (i *idle) put(c *conn) {
	c.since = time.Now()
	i.mu.Lock()
	kept := len(i.conns) < i.most
	if kept {
		i.conns = append(i.conns, c)
		if i.sweeper == nil {
			i.sweeper = time.AfterFunc(sweepEvery, i.sweep)
		}
	}
	i.mu.Unlock()
	if !kept {
		c.close()
	}
}

// sweep closes what has been idle for too long, or was closed by the upstream, and comes back as long as anything is
// left.
func (i *idle) sweep() {
	now := time.Now()
	i.mu.Lock()
	seen := len(i.conns)
	i.mu.Unlock()
	for seen > 0 {
		i.mu.Lock()
		n := min(seen, sweepAtATime, len(i.conns))
		some := append([]*conn(nil), i.conns[:n]...)
		i.conns = append(i.conns[:0], i.conns[n:]...)
		i.mu.Unlock()
		seen -= max(n, 1)
		i.putBack(some, now)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.conns) == 0 {
		i.sweeper = nil
		return
	}
	i.sweeper.Reset(sweepEvery)
}

// putBack puts those of some that are fit below all others: they are older.
func (i *idle) putBack(some []*conn, now time.Time) {
	kept := some[:0]
	for _, c := range some {
		if i.fit(c, now) {
			kept = append(kept, c)
		} else {
			c.close()
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.conns = append(kept, i.conns...)
}

// closeAll closes all connections, on a goroutine of its own: the end of a TLS connection is written to a peer that may
// read nothing.
func (i *idle) closeAll() {
	i.mu.Lock()
	all := i.conns
	i.conns = nil
	i.mu.Unlock()
	if len(all) == 0 {
		return
	}
	go func() {
		for _, c := range all {
			c.close()
		}
	}()
}
