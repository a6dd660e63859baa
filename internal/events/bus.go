package events

import (
	"context"
	"errors"
	"sync"
)

// ErrClosed is returned by Next once its subscription is closed and drained.
var ErrClosed = errors.New("events: subscription closed")

// Bus publishes events to any number of subscriptions, in the same order to each. No subscription
// can block Publish: if its queue is full, the queued events are dropped and counted. It is safe
// for concurrent use; the zero Bus is ready to use.
type Bus struct {
	mu   sync.Mutex // guards subs; held during Publish, so that all subscriptions have the same order
	subs map[*Subscription]struct{}
}

// Publish adds e to the queue of every subscription. It does not block.
func (b *Bus) Publish(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.subs {
		s.push(e)
	}
}

// Subscribe returns a subscription to all events that are published from now on. It queues at most
// limit events. The caller must Close it.
func (b *Bus) Subscribe(limit int) *Subscription {
	s := &Subscription{bus: b, limit: max(limit, 1), ready: make(chan struct{}, 1)}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.subs == nil {
		b.subs = make(map[*Subscription]struct{})
	}
	b.subs[s] = struct{}{}
	return s
}

// Subscription is the queue of one subscriber. Next must be called by one goroutine at a time; Close
// is safe for concurrent use.
type Subscription struct {
	bus   *Bus
	limit int
	ready chan struct{} // holds a token if the queue or closed has changed

	mu     sync.Mutex // guards the fields below
	queue  []Event
	missed int // events dropped before the first in queue
	closed bool
}

// push adds e to the queue, dropping the queued events if it is full.
func (s *Subscription) push(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) >= s.limit {
		s.missed += len(s.queue)
		s.queue = s.queue[:0]
	}
	s.queue = append(s.queue, e)
	s.wake()
}

func (s *Subscription) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// Next waits for the next event. missed is the number of events that were dropped before it because
// the subscriber was too slow; if it is not 0, the subscriber should read the current state again.
// The error is ctx.Err() or ErrClosed.
func (s *Subscription) Next(ctx context.Context) (e Event, missed int, err error) {
	for {
		if e, missed, ok, closed := s.pop(); ok {
			return e, missed, nil
		} else if closed {
			return nil, 0, ErrClosed
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

// pop removes the first event from the queue; ok is false if there is none.
func (s *Subscription) pop() (e Event, missed int, ok, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return nil, 0, false, s.closed
	}
	e, missed = s.queue[0], s.missed
	s.queue[0] = nil
	s.queue = s.queue[1:]
	s.missed = 0
	return e, missed, true, false
}

// Close ends the subscription. Next still returns the queued events. Further calls have no effect.
func (s *Subscription) Close() {
	s.bus.mu.Lock()
	delete(s.bus.subs, s)
	s.bus.mu.Unlock()

	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.wake()
}
