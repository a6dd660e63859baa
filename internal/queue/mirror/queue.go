package mirror

import (
	"context"
	"time"
)

// Queue is what a Mirror uses of the queue whose messages it copies. All methods are safe for concurrent use.
type Queue interface {
	// MaxAge returns how long a message may wait.
	MaxAge() time.Duration
	// FreeCapacity returns how many messages may be added.
	FreeCapacity() int
	// AcceptFromPeer adds a message of another instance to the store.
	AcceptFromPeer(ctx context.Context, payload []byte) (seq uint64, err error)
	// ReleaseToPeer removes a message that another instance has taken over, unless it is being sent. has reports whether the message is
	// still in the store.
	ReleaseToPeer(seq uint64) (has bool, err error)
	// AddTakenOver counts messages that were taken over.
	AddTakenOver(n int)
	// RemovalsPending reports whether any delivered message is still in the store.
	RemovalsPending() bool
	// Notify makes the queue call Mirror.Ready again.
	Notify()
	// Stopped returns a channel that is closed when no more messages are delivered.
	Stopped() <-chan struct{}
}
