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

// order is what an operator wants of the whole fleet.
type order struct {
	auto   bool // the end of a hold
	state  events.State
	d      time.Duration // of the hold; 0 is until the next order
	reason string
	done   chan error // takes one
}

// Force is an operator's order to the whole fleet: Open and Closed hold for d, or until Release
// if d is 0; HalfOpen starts probing now. It returns when Redis has taken it and the breaker
// here follows it, as the others then do, or else with an error, and then it may come into force
// all the same.
func (f *Fleet) Force(ctx context.Context, service string, state events.State, d time.Duration, reason string) error {
	return f.order(ctx, service, &order{state: state, d: d, reason: reason})
}

// Release ends the fleet's hold on a service, if there is one.
func (f *Fleet) Release(ctx context.Context, service, reason string) error {
	return f.order(ctx, service, &order{auto: true, reason: reason})
}

func (f *Fleet) order(ctx context.Context, service string, o *order) error {
	o.done = make(chan error, 1)
	m := f.member(service)
	if m == nil {
		return fmt.Errorf("%s takes no part in a fleet", service)
	}
	select {
	case m.orders <- o:
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

// ordered returns the decision that the waiting order asks for.
func (p *participant) ordered(now time.Time) (r request) {
	o := p.order
	s := store.State{
		Service: p.service, State: o.state, Timestamp: p.clock.toRemote(now), Instance: p.instance,
		Cause: events.CauseForced, Reason: o.reason,
	}
	switch {
	case o.auto && !p.known.Forced:
		p.finishOrder(nil, nil)
		return r
	case o.auto:
		s.Cause, s.State = events.CauseReleased, events.Closed
		if p.known.State == events.Open {
			s.State = events.HalfOpen
		}
	case o.state != events.HalfOpen:
		s.Forced, s.Shared, s.OpenedAt = true, true, s.Timestamp
		if o.d > 0 {
			s.Until = s.OpenedAt.Add(o.d)
		}
	}
	r.kind, r.order = decide, true
	r.decision.State, r.decision.Follows = s, p.known.Epoch
	return r
}

// finishOrder answers the order that waits, if there is one and r asked for it, or r is nil.
func (p *participant) finishOrder(r *request, err error) {
	if p.order != nil && (r == nil || r.order) {
		p.order.done <- err
		p.order = nil
	}
}
