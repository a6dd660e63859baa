package fleet

import (
	"context"
	"time"

	"cbproxy/internal/store"
)

// Coordinator stores a fleet's decisions and probe leases; store.Redis implements it. If a method
// returns an error, the request may or may not have been executed.
type Coordinator interface {
	Merge(ctx context.Context, s store.State) (kept store.State, now time.Time, err error)
	Propose(ctx context.Context, p store.Proposal) (result store.ProposalResult, kept store.State, now time.Time, err error)
	Acquire(ctx context.Context, service, token string, d time.Duration) (busy time.Duration, err error)
	Renew(ctx context.Context, service, token string, d time.Duration) (held, contended bool, err error)
	Release(ctx context.Context, service, token string) error
	Listen(ctx context.Context, l store.Listener)
}

// requestKind is one of the Coordinator's methods.
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

// request is a request to the Coordinator.
type request struct {
	kind     requestKind
	state    store.State    // for merge; its Service is set for every kind
	decision store.Proposal // for decide
	command  bool           // the decision is that of an operator's command
	token    string         // of the lease, for acquire, renew and release
}

// response is the Coordinator's response to a request.
type response struct {
	err       error
	result    store.ProposalResult
	state     store.State   // the state that the Coordinator has now
	now       time.Time     // by the Coordinator's clock
	busy      time.Duration // remaining duration of another instance's lease
	held      bool          // the lease was renewed
	contended bool          // another instance is waiting for the lease
}

// send sends the request to c and returns its response.
func (r *request) send(ctx context.Context, c Coordinator) (res response) {
	service := r.state.Service
	switch r.kind {
	case merge:
		res.state, res.now, res.err = c.Merge(ctx, r.state)
	case decide:
		res.result, res.state, res.now, res.err = c.Propose(ctx, r.decision)
	case acquire:
		res.busy, res.err = c.Acquire(ctx, service, r.token, leaseTime)
	case renew:
		res.held, res.contended, res.err = c.Renew(ctx, service, r.token, leaseTime)
	case release:
		res.err = c.Release(ctx, service, r.token)
	}
	return res
}
