package tunnel

import (
	"context"
	"sync"
)

// Group counts the open tunnels. The zero Group has none. It is safe for concurrent use.
type Group struct{ open sync.WaitGroup }

// Opened adds a tunnel.
func (g *Group) Opened() { g.open.Add(1) }

// Closed removes a tunnel.
func (g *Group) Closed() { g.open.Done() }

// Drain waits until no tunnel is open any more, or ctx is done.
func (g *Group) Drain(ctx context.Context) error {
	drained := make(chan struct{})
	go func() { g.open.Wait(); close(drained) }()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
