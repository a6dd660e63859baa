package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/store"
)

var errNotShared = errors.New("the instances share nothing: redis.url is not set or redis.share.enabled is false")

// command is what an operator wants of the whole fleet.
type command struct {
	release  bool // the end of a hold
	state    events.State
	duration time.Duration // of the hold; 0 is until the next order
	reason   string
	done     chan error // takes one
}

// Force is an operator's order to the whole fleet: Open and Closed hold for d, or until Release
// if d is 0; HalfOpen starts probing now. It returns when Redis has taken it and the breaker
// here follows it, as the others then do, or else with an error, and then it may come into force
// all the same.
func (f *Fleet) Force(ctx context.Context, service string, state events.State, d time.Duration, reason string) error {
	return f.execute(ctx, service, &command{state: state, duration: d, reason: reason})
}

// Release ends the fleet's hold on a service, if there is one.
func (f *Fleet) Release(ctx context.Context, service, reason string) error {
	return f.execute(ctx, service, &command{release: true, reason: reason})
}

func (f *Fleet) execute(ctx context.Context, service string, o *command) error {
	o.done = make(chan error, 1)
	m := f.worker(service)
	if m == nil {
		return fmt.Errorf("%s takes no part in a fleet", service)
	}
	select {
	case m.commands <- o:
	case <-ctx.Done():
		return fmt.Errorf("order %s: %w", service, ctx.Err())
	}
	select {
	case err := <-o.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("order %s: %w", service, ctx.Err())
	}
}

// commandRequest returns the decision that the waiting order asks for.
func (p *protocol) commandRequest(now time.Time) (r request) {
	o := p.command
	s := store.State{
		Service: p.service, State: o.state, Timestamp: p.clock.toRemote(now), Instance: p.instance,
		Cause: events.CauseForced, Reason: o.reason,
	}
	switch {
	case o.release && !p.known.Forced:
		p.completeCommand(nil, nil)
		return r
	case o.release:
		s.Cause, s.State = events.CauseReleased, events.Closed
		if p.known.State == events.Open {
			s.State = events.HalfOpen
		}
	case o.state != events.HalfOpen:
		s.Forced, s.Shared, s.OpenedAt = true, true, s.Timestamp
		if o.duration > 0 {
			s.Until = s.OpenedAt.Add(o.duration)
		}
	}
	r.kind, r.command = decide, true
	r.decision.State, r.decision.Follows = s, p.known.Epoch
	return r
}

// completeCommand answers the order that waits, if there is one and r asked for it, or r is nil.
func (p *protocol) completeCommand(r *request, err error) {
	if p.command != nil && (r == nil || r.command) {
		p.command.done <- err
		p.command = nil
	}
}
