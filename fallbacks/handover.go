package fallbacks

import (
	"fmt"
	"sync"

	"cbproxy/internal/upstream"
	"cbproxy/routes"
)

// holders counts the strategies that hold a thing which outlives reloads: one of the old
// configuration and one of the new hold it for a while, and the last one to let go of it
// closes it. Only a strategy that is started holds anything. Safe for concurrent use; the zero
// holders are none.
type holders struct {
	mu    sync.Mutex // held while the thing is opened or closed
	count int
}

// hold counts one more, and calls open if it is the first.
func (h *holders) hold(open func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.count++; h.count == 1 {
		open()
	}
}

// release counts one less, and calls closeIt if it was the last.
func (h *holders) release(closeIt func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.count--; h.count == 0 {
		closeIt()
	}
}

// connections are those to one server. Safe for concurrent use.
type connections struct {
	key       routes.ConnectionKey
	transport *upstream.Renewable
	holders   holders
}

// connect returns before if that leads to u, and else new connections, of which there is none
// yet.
func connect(u routes.Upstream, tls routes.TLS, site Site, before *connections) (*connections, error) {
	key := u.ConnectionKey(tls)
	if before != nil && before.key == key {
		return before, nil
	}
	transport, err := site.Transport(u, tls)
	if err != nil {
		return nil, fmt.Errorf("make a transport to %s: %w", u.Redacted(), err)
	}
	return &connections{key: key, transport: upstream.NewRenewable(transport)}, nil
}

func (c *connections) hold() { c.holders.hold(func() {}) }

// release closes the idle connections if no other strategy holds them; one in use is closed once it is idle. It does not
// wait for that.
func (c *connections) release() { c.holders.release(c.transport.Close) }
