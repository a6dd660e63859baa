package fleet

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/store"
)

// syncInterval is how often an instance merges the last decision that it knows with that in Redis,
// so that each of them gets what it has missed.
const syncInterval = 30 * time.Second

// protocol is the state machine of one service on one instance. It does no I/O, does not block and
// starts no goroutine. Its caller calls next, sends the request that it returns, and passes the
// response to handleResponse, one at a time. Only mayProbe is safe for concurrent use.
type protocol struct {
	service, instance string
	breaker           *breaker.Breaker
	sharing           func() Sharing
	syncInterval      func() time.Duration // between merges
	lastContact       *atomicTime          // when Redis responded to this instance last
	tokenCount        *atomic.Int64        // number of lease tokens that this instance has created
	wakeUp            func()               // makes the caller call next
	random            func() float64       // in [0, 1)

	clock    clock
	known    store.State // the last decision that this instance knows
	applied  uint64      // the epoch of the last decision that the breaker follows
	syncAt   time.Time   // when the next merge is due; zero means now
	lastVote vote        // the last vote that Redis has received
	reported report      // the last decision on the breaker's own state that was sent
	lease    lease
	election election
	command  *command // an operator's pending command
	failures [len(requestKinds)]failure

	// lastFailure is the time of the last failure of a kind of request that has failed for
	// failureTimeout.
	lastFailure atomicTime

	permit      atomic.Pointer[probePermit]
	probeWanted atomic.Bool // a call was rejected because another instance is the prober
	lastProbe   atomicTime  // when a call was admitted as a probe for the fleet
}

// vote identifies a decision to open, which counts towards a quorum. It is sent once: for one
// opening of this instance's breaker, after one epoch.
type vote struct {
	since  time.Time
	epoch  uint64
	quorum int
}

// report identifies a decision that reports a state of this instance's breaker.
type report struct {
	since     time.Time // when the state began
	timestamp time.Time // the decision's, by the clock of Redis
}

// is reports whether r is a decision with a timestamp that reports the state that began at since. Later decisions on the same state,
// such as that on its prober, keep the timestamp.
func (r report) is(since, timestamp time.Time) bool {
	return r.since.Equal(since) && r.timestamp.Sub(timestamp).Abs() < time.Millisecond // Redis may round it
}

func newProtocol(service, instance string, b *breaker.Breaker) *protocol {
	p := &protocol{
		service: service, instance: instance, breaker: b,
		sharing:      func() Sharing { return Sharing{Enabled: true, Quorum: 1} },
		syncInterval: func() time.Duration { return syncInterval },
		lastContact:  new(atomicTime), tokenCount: new(atomic.Int64), wakeUp: func() {}, random: rand.Float64,
		known: store.State{Service: service, Instance: instance},
	}
	p.permit.Store(&probePermit{})
	return p
}

// next applies the last known decision to the breaker, and returns the request to send now. If its
// kind is noRequest, next must be called again at wake, or after wakeUp; wake is zero if only
// wakeUp requires it.
func (p *protocol) next(now time.Time) (r request, wake time.Time) {
	sharing := p.sharing()
	p.applyDecision(sharing, now)
	status := p.breaker.Status()
	r, wake = p.nextRequest(&status, sharing, now)
	r.state.Service = p.service
	p.updatePermit(&status, sharing, now)
	return r, wake
}

// handlePublished handles a published decision. It ignores decisions before the first response,
// when the clock cannot convert their times yet.
func (p *protocol) handlePublished(s store.State) {
	if p.clock.known() && s.Epoch > p.known.Epoch {
		p.known = s
	}
}

// handleResponse handles the response to r. sent and received are the local times of request and
// response.
func (p *protocol) handleResponse(r *request, res response, sent, received time.Time) {
	p.recordResult(r.kind, res.err != nil, received)
	if res.err != nil {
		p.syncAt = time.Time{} // the request may have been executed
		p.completeCommand(nil, res.err)
		return
	}
	p.lastContact.set(received)
	if !res.now.IsZero() {
		p.clock.addReading(sent, received, res.now)
	}
	switch r.kind {
	case merge:
		p.syncAt = received.Add(p.jittered(p.syncInterval()))
		p.updateKnown(res.state, received)
		p.lastVote = vote{} // vote again, in case Redis has lost the vote
	case decide:
		p.handleDecided(r, res, received)
	case acquire:
		p.handleAcquired(r, res, sent, received)
	case renew:
		if !res.held {
			p.lease = lease{}
			return
		}
		p.lease.renewed, p.lease.wanted = sent, res.contended
	}
}

// updateKnown updates the last known decision with the one that Redis has returned.
func (p *protocol) updateKnown(s store.State, now time.Time) {
	switch {
	case s.Epoch > p.known.Epoch:
		p.known = s
	case s.Epoch < p.known.Epoch:
		p.syncAt = now // Redis has lost a decision: merge restores it
	case s.Epoch > 0 && (s.Instance != p.known.Instance || s.State != p.known.State || s.Prober != p.known.Prober):
		p.known, p.applied = s, 0 // two servers have assigned the same epoch: the current server's decision holds
	}
}

func (p *protocol) handleDecided(r *request, res response, received time.Time) {
	p.updateKnown(res.state, received)
	switch res.result {
	case store.Accepted:
		if r.command {
			p.applyDecision(p.sharing(), received) // before the command completes
		} else {
			p.applied = res.state.Epoch // the breaker is in that state already
		}
		p.completeCommand(r, nil)
	case store.Outdated:
		if res.state.Epoch <= p.known.Epoch {
			p.syncAt = time.Time{}
		}
	}
}

func (p *protocol) handleAcquired(r *request, res response, sent, received time.Time) {
	e := &p.election
	e.acquireAt, e.lastAttempt, e.leaseLeft = time.Time{}, received, res.busy
	if res.busy > 0 {
		e.failures = min(e.failures+1, 8)
		return
	}
	e.failures = 0
	p.probeWanted.Store(false)
	idleTimeout := p.jittered(leaseIdleTimeout << min(e.leases, 5))
	e.leases++
	p.lease = lease{token: r.token, since: received, renewed: sent, idleTimeout: idleTimeout}
}

// jittered returns d plus a random share of up to a fifth.
func (p *protocol) jittered(d time.Duration) time.Duration {
	return d + time.Duration(p.random()*float64(d)/5)
}
