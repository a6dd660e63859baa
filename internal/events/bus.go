package events

import (
	"context"
	"errors"
	"sync"
)

// ErrClosed is returned by Next once its subscription is closed and drained.
var ErrClosed = errors.New("events: subscription closed")

// Bus carries events to any number of subscriptions. Each subscription sees the events in
// the order in which they were published, and none can hold up Publish: a subscription
// whose queue is full loses what is in it and is told how much. Safe for concurrent use;
// the zero Bus is ready.
type Bus struct {
	mu   sync.Mutex // guards subs, and makes the order of events the same for all
	subs map[*Subscription]struct{}
}

// Publish hands e to every subscription and returns at once.
func (b *Bus) Publish(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.subs {
		s.push(e)
	}
}

// Subscribe returns a subscription to all events from now on, which queues at most limit
// events. The caller must Close it.
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

// Subscription is one listener's queue. Next is for one goroutine; Close is for any.
type Subscription struct {
	bus   *Bus
	limit int
	ready chan struct{} // holds a token while there is something to see

	mu     sync.Mutex // guards what follows
	queue  []Event
	missed int
	closed bool
}

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

// Next waits for the next event. A missed above 0 says how many events before it were
// dropped because the listener was too slow: it should read the current state anew. The
// error is ctx's, or ErrClosed.
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

// Close ends the subscription; Next still returns what is queued. Closing twice is fine.
func (s *Subscription) Close() {
	s.bus.mu.Lock()
	delete(s.bus.subs, s)
	s.bus.mu.Unlock()

	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.wake()
}
