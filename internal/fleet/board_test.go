package fleet

import (
	"context"
	"math"
	"time"

	"cbproxy/internal/store"
)

// memoryBoard does what the scripts in Redis do, in memory and by this host's clock. That it
// does the same is tested with a real server. It is for one goroutine.
type memoryBoard struct {
	states  map[string]boardState
	leases  map[string]boardLease
	decided func(before, after store.State, d *store.Decision) // called with each decision accepted, and each state merged
	ahead   time.Duration                                      // of this host's clock
}

type boardState struct {
	store.State
	findings map[string]time.Time
}

type boardLease struct {
	token  string
	wanted bool
	until  time.Time
}

func newMemoryBoard() *memoryBoard {
	return &memoryBoard{
		states: map[string]boardState{}, leases: map[string]boardLease{},
		decided: func(_, _ store.State, _ *store.Decision) {},
	}
}

func (b *memoryBoard) Merge(_ context.Context, s store.State) (store.State, time.Time, error) {
	kept, there := b.states[s.Service]
	if !there || kept.Epoch < s.Epoch {
		b.states[s.Service] = boardState{State: s}
		if s.Epoch > 0 {
			b.decided(kept.State, s, nil)
		}
	}
	return b.states[s.Service].State, time.Now().Add(b.ahead), nil
}

func (b *memoryBoard) Decide(_ context.Context, d store.Decision) (store.Verdict, store.State, time.Time, error) {
	now, service := time.Now().Add(b.ahead), d.State.Service
	kept, there := b.states[service]
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
		b.states[service] = kept
		if len(kept.findings) < d.Quorum {
			return store.Counted, kept.State, now, nil
		}
	}
	next := d.State
	next.Epoch = max(kept.Epoch+1, uint64(now.UnixMilli()))
	b.states[service] = boardState{State: next}
	b.decided(kept.State, next, &d)
	return store.Accepted, next, now, nil
}

func (b *memoryBoard) lease(service string) boardLease {
	l := b.leases[service]
	if !time.Now().Before(l.until) {
		return boardLease{}
	}
	return l
}

func (b *memoryBoard) Acquire(_ context.Context, service, token string, d time.Duration) (time.Duration, error) {
	l := b.lease(service)
	if l.token == "" || l.token == token {
		b.leases[service] = boardLease{token: token, until: time.Now().Add(d)}
		return 0, nil
	}
	l.wanted = true
	b.leases[service] = l
	left := time.Until(l.until)
	return time.Duration(math.Ceil(left.Seconds()*1000)) * time.Millisecond, nil
}

func (b *memoryBoard) Renew(_ context.Context, service, token string, d time.Duration) (kept, wanted bool, err error) {
	l := b.lease(service)
	if l.token != token {
		return false, false, nil
	}
	l.until = time.Now().Add(d)
	b.leases[service] = l
	return true, l.wanted, nil
}

func (b *memoryBoard) Release(_ context.Context, service, token string) error {
	if b.lease(service).token == token {
		delete(b.leases, service)
	}
	return nil
}

func (b *memoryBoard) Listen(ctx context.Context, _ store.Listener) { <-ctx.Done() }

// lose replaces all data by what it was before, or by nothing.
func (b *memoryBoard) lose(service string, before *store.State) {
	delete(b.leases, service)
	delete(b.states, service)
	if before != nil {
		b.states[service] = boardState{State: *before}
	}
}

var _ Coordinator = (*memoryBoard)(nil)
var _ Coordinator = (*store.Redis)(nil)
