package httpserver

import (
	"context"

	"cbproxy/internal/listen"
)

// Change is a change of a Set that has been prepared.
type Change struct {
	set     *Set
	members map[string]*member // of the set after the change
	opened  []*member
	undo    []func() // restores the permissions of sockets
}

// Prepare opens the sockets of a change, after which the set has the listeners want, by key. Listeners whose key the set has are
// kept; if the mode or the group of a Unix socket differs, it is changed. If a socket can't be opened, Prepare returns an
// *OpenError, and nothing has changed.
func (s *Set) Prepare(ctx context.Context, want map[string]listen.Address) (*Change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &Change{set: s, members: make(map[string]*member, len(want))}
	for key, address := range want {
		m, err := c.prepare(ctx, key, address)
		if err != nil {
			c.Discard()
			return nil, &OpenError{Key: key, Err: err}
		}
		c.members[key] = m
	}
	return c, nil
}

// prepare returns the member with a key.
func (c *Change) prepare(ctx context.Context, key string, address listen.Address) (*member, error) {
	current := c.set.members[key]
	switch {
	case current == nil:
		l, err := listen.Open(ctx, address)
		if err != nil {
			return nil, err
		}
		m := &member{key: key, address: address, listener: l, server: c.set.newServer(key)}
		c.opened = append(c.opened, m)
		return m, nil
	case current.address == address:
		return current, nil
	}
	c.undo = append(c.undo, func() { _ = current.listener.SetPermissions(current.address) }) // succeeded before
	if err := current.listener.SetPermissions(address); err != nil {
		return nil, err
	}
	return &member{key: key, address: address, listener: current.listener, server: current.server}, nil
}

// Opened returns the keys of the listeners that the change opens.
func (c *Change) Opened() (keys []string) {
	for _, m := range c.opened {
		keys = append(keys, m.key)
	}
	return keys
}

// Discard closes the sockets that have been opened. The set keeps its listeners.
func (c *Change) Discard() {
	for _, m := range c.opened {
		_ = m.listener.Close()
	}
	for _, undo := range c.undo {
		undo()
	}
}

// Commit begins to serve the listeners that the change opens, and closes those that the set does not have after it. When Commit
// returns, these accept no more connections; requests in flight are completed, and then their connections are closed. Commit
// returns the keys of the closed listeners.
func (c *Change) Commit() (closed []string) {
	s := c.set
	s.mu.Lock()
	var removed []*member
	for key, m := range s.members {
		if c.members[key] == nil {
			removed = append(removed, m)
			s.retired[m] = true
			closed = append(closed, key)
		}
	}
	s.members = c.members
	for _, m := range c.opened {
		switch {
		case s.closing:
			_ = m.listener.Close()
		case s.started:
			s.serve(m)
		}
	}
	s.mu.Unlock()
	for _, m := range removed {
		m.server.StopAccepting()
		s.drained.Go(func() {
			_ = m.server.Shutdown(context.Background()) // ends when Set.Close aborts the requests
			s.mu.Lock()
			delete(s.retired, m)
			s.mu.Unlock()
		})
	}
	return closed
}
