package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/store"
)

var errNotShared = errors.New("sharing is off: redis.url is not set or redis.share.enabled is false")

// command is an operator's command for the whole fleet.
type command struct {
	release  bool // release the forced state; otherwise force state
	state    events.State
	duration time.Duration // of the forced state; 0 means until the next command
	reason   string
	done     chan error // receives the result; has a buffer of one
}

// Force forces the state of a service's breaker on every instance: Open and Closed for d, or until
// Release if d is 0; HalfOpen starts probing now. It returns nil once Redis has accepted the
// decision and the breaker of this instance is in that state; the other instances follow. After an
// error the decision may take effect nevertheless.
func (f *Fleet) Force(ctx context.Context, service string, state events.State, d time.Duration, reason string) error {
	return f.execute(ctx, service, &command{state: state, duration: d, reason: reason})
}

// Release releases a state that is forced on every instance. It does nothing if there is none.
func (f *Fleet) Release(ctx context.Context, service, reason string) error {
	return f.execute(ctx, service, &command{release: true, reason: reason})
}

// execute passes c to the service's worker and waits for its result.
func (f *Fleet) execute(ctx context.Context, service string, c *command) error {
	c.done = make(chan error, 1)
	w := f.worker(service)
	if w == nil {
		return fmt.Errorf("the state of %s is not shared", service)
	}
	select {
	case w.commands <- c:
	case <-ctx.Done():
		return fmt.Errorf("set the fleet's state of %s: %w", service, ctx.Err())
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("set the fleet's state of %s: %w", service, ctx.Err())
	}
}

// commandRequest returns the request for the pending command. It completes the command if there is
// nothing to decide.
func (p *protocol) commandRequest(now time.Time) (r request) {
	c := p.command
	s := store.State{
		Service: p.service, State: c.state, Timestamp: p.clock.toRemote(now), Instance: p.instance,
		Cause: events.CauseForced, Reason: c.reason,
	}
	switch {
	case c.release && !p.known.Forced:
		p.completeCommand(nil, nil)
		return r
	case c.release:
		s.Cause, s.State = events.CauseReleased, events.Closed
		if p.known.State == events.Open {
			s.State = events.HalfOpen
		}
	case c.state != events.HalfOpen:
		s.Forced, s.Shared, s.OpenedAt = true, true, s.Timestamp
		if c.duration > 0 {
			s.Until = s.OpenedAt.Add(c.duration)
		}
	}
	r.kind, r.command = decide, true
	r.decision.State, r.decision.Follows = s, p.known.Epoch
	return r
}

// completeCommand completes the pending command with err, if there is one. If r is not nil, it does
// so only if r is the request for that command.
func (p *protocol) completeCommand(r *request, err error) {
	if p.command != nil && (r == nil || r.command) {
		p.command.done <- err
		p.command = nil
	}
}
