package fleet

import (
	"context"
	"time"

	"cbproxy/internal/store"
)

// Coordinator is where a fleet's decisions are made and leases are kept, as store.Redis has it. A
// method's error means that what was asked may have happened or not.
type Coordinator interface {
	Merge(ctx context.Context, s store.State) (kept store.State, now time.Time, err error)
	Decide(ctx context.Context, d store.Decision) (v store.Verdict, kept store.State, now time.Time, err error)
	Acquire(ctx context.Context, service, token string, d time.Duration) (busy time.Duration, err error)
	Renew(ctx context.Context, service, token string, d time.Duration) (kept, wanted bool, err error)
	Release(ctx context.Context, service, token string) error
	Listen(ctx context.Context, l store.Listener)
}

// requestKind is one of the Board's methods.
type requestKind int

const (
	noRequest requestKind = iota
	merge
	decide
	acquire
	renew
	release
)

var requestKinds = [...]requestKind{noRequest, merge, decide, acquire, renew, release}

// request is something to ask the Board.
type request struct {
	kind     requestKind
	state    store.State    // to merge
	decision store.Decision // to decide
	command  bool           // the decision is an operator's
	token    string         // of a lease
}

// response is what the Board said.
type response struct {
	err     error
	verdict store.Verdict
	state   store.State   // that is kept
	now     time.Time     // by the Board's clock
	busy    time.Duration // how long the lease is another's
	kept    bool          // the lease was renewed
	wanted  bool          // by another instance
}

// send asks b.
func (r *request) send(ctx context.Context, b Coordinator) (a response) {
	service := r.state.Service
	switch r.kind {
	case merge:
		a.state, a.now, a.err = b.Merge(ctx, r.state)
	case decide:
		a.verdict, a.state, a.now, a.err = b.Decide(ctx, r.decision)
	case acquire:
		a.busy, a.err = b.Acquire(ctx, service, r.token, leaseTime)
	case renew:
		a.kept, a.wanted, a.err = b.Renew(ctx, service, r.token, leaseTime)
	case release:
		a.err = b.Release(ctx, service, r.token)
	}
	return a
}
