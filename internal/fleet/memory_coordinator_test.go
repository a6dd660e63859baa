package fleet

import (
	"context"
	"math"
	"time"

	"cbproxy/internal/store"
)

// memoryCoordinator implements Coordinator in memory like the Redis scripts, with this host's clock.
// TestRedisMatchesMemoryCoordinator compares them. It is not safe for concurrent use.
type memoryCoordinator struct {
	states      map[string]memoryState
	leases      map[string]memoryLease
	onDecision  func(before, after store.State, d *store.Proposal) // called with each accepted decision and each merged state
	clockOffset time.Duration                                      // added to this host's clock
}

type memoryState struct {
	store.State
	findings map[string]time.Time
}

type memoryLease struct {
	token  string
	wanted bool
	until  time.Time
}

func newMemoryCoordinator() *memoryCoordinator {
	return &memoryCoordinator{
		states: map[string]memoryState{}, leases: map[string]memoryLease{},
		onDecision: func(_, _ store.State, _ *store.Proposal) {},
	}
}

func (c *memoryCoordinator) Merge(_ context.Context, s store.State) (store.State, time.Time, error) {
	kept, there := c.states[s.Service]
	if !there || kept.Epoch < s.Epoch {
		c.states[s.Service] = memoryState{State: s}
		if s.Epoch > 0 {
			c.onDecision(kept.State, s, nil)
		}
	}
	return c.states[s.Service].State, time.Now().Add(c.clockOffset), nil
}

func (c *memoryCoordinator) Propose(_ context.Context, d store.Proposal) (store.ProposalResult, store.State, time.Time, error) {
	now, service := time.Now().Add(c.clockOffset), d.State.Service
	kept, there := c.states[service]
	if !there || kept.Epoch != d.Follows {
		kept.Service = service
		return store.Outdated, kept.State, now, nil
	}
	if d.Quorum > 0 {
		if kept.findings == nil {
			kept.findings = map[string]time.Time{}
		}
		if d.Age < d.Window {
			kept.findings[d.State.Instance] = now.Add(-d.Age)
		}
		for instance, at := range kept.findings {
			if now.Sub(at) >= d.Window {
				delete(kept.findings, instance)
			}
		}
		c.states[service] = kept
		if len(kept.findings) < d.Quorum {
			return store.QuorumNotReached, kept.State, now, nil
		}
	}
	next := d.State
	next.Epoch = max(kept.Epoch+1, uint64(now.UnixMilli()))
	c.states[service] = memoryState{State: next}
	c.onDecision(kept.State, next, &d)
	return store.Accepted, next, now, nil
}

func (c *memoryCoordinator) lease(service string) memoryLease {
	l := c.leases[service]
	if !time.Now().Before(l.until) {
		return memoryLease{}
	}
	return l
}

func (c *memoryCoordinator) Acquire(_ context.Context, service, token string, d time.Duration) (time.Duration, error) {
	l := c.lease(service)
	if l.token == "" || l.token == token {
		c.leases[service] = memoryLease{token: token, until: time.Now().Add(d)}
		return 0, nil
	}
	l.wanted = true
	c.leases[service] = l
	left := time.Until(l.until)
	return time.Duration(math.Ceil(left.Seconds()*1000)) * time.Millisecond, nil
}

func (c *memoryCoordinator) Renew(_ context.Context, service, token string, d time.Duration) (kept, wanted bool, err error) {
	l := c.lease(service)
	if l.token != token {
		return false, false, nil
	}
	l.until = time.Now().Add(d)
	c.leases[service] = l
	return true, l.wanted, nil
}

func (c *memoryCoordinator) Release(_ context.Context, service, token string) error {
	if c.lease(service).token == token {
		delete(c.leases, service)
	}
	return nil
}

func (c *memoryCoordinator) Listen(ctx context.Context, _ store.Listener) { <-ctx.Done() }

// restore replaces all data of a service by before, or deletes them if it is nil.
func (c *memoryCoordinator) restore(service string, before *store.State) {
	delete(c.leases, service)
	delete(c.states, service)
	if before != nil {
		c.states[service] = memoryState{State: *before}
	}
}

var _ Coordinator = (*memoryCoordinator)(nil)
var _ Coordinator = (*store.Redis)(nil)
