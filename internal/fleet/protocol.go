package fleet

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/store"
)

const (
	// syncInterval is how often an instance compares what it knows of a service with Redis,
	// to repair what was missed by either.
	syncInterval = 30 * time.Second
	// contactTimeout is how long Redis may be silent before an instance goes by what it knows
	// itself.
	contactTimeout = 4 * time.Second
	// failureTimeout is the same for a service whose keys can't be used.
	failureTimeout = 2 * time.Second
	// failureLifetime is how long a request that failed counts as failing when it is not asked again.
	failureLifetime = 10 * time.Second
	// endTolerance is how far apart two ends of one opening may be.
	endTolerance = 20 * time.Millisecond
)

// A protocol is one instance's part in what the fleet does about one service. It has no
// goroutine, waits for nothing and asks nobody but the breaker: next says what to ask Redis and
// answer takes the answer, one at a time. Only turn may be called at any moment.
type protocol struct {
	service, instance string
	breaker           *breaker.Breaker
	sharing           func() Sharing
	syncInterval      func() time.Duration // between comparisons
	lastContact       *atomicTime          // when this instance last heard of Redis
	tokenCount        *atomic.Int64        // how many leases this instance has asked for
	wakeUp            func()               // wakes who calls next
	random            func() float64       // in [0, 1)

	clock       clock
	known       store.State // the last decision of the fleet that is known here
	applied     uint64      // the epoch of the last decision that the breaker follows
	syncAt      time.Time   // zero: at once
	lastVote    vote        // the last own finding that Redis was told
	lease       lease
	election    election
	command     *command // an operator's, waiting
	failures    [len(requestKinds)]failure
	lastFailure atomicTime // since when what is asked fails, all of it or some

	permit      atomic.Pointer[probePermit]
	probeWanted atomic.Bool // a call was refused because another instance probes
	lastProbe   atomicTime  // when a call was let through as the fleet's probe
}

// A vote is one opening of this instance's own, told after a decision, where so many make a
// quorum.
type vote struct {
	since  time.Time
	epoch  uint64
	quorum int
}

// A failure is that of one kind of request: one may fail while others work, which may not be
// asked again.
type failure struct{ first, last time.Time }

func (f *failure) current(now time.Time) bool {
	return !f.first.IsZero() && now.Sub(f.last) < failureLifetime
}

// A probePermit is what turn goes by. It is never modified.
type probePermit struct {
	required bool      // the fleet's probes decide, not everybody's own
	until    time.Time // when the right to probe ends here; zero if it is elsewhere
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

// mayProbe tells whether a call may probe the upstream. Without Redis, everybody may.
func (p *protocol) mayProbe() bool {
	g := p.permit.Load()
	now := time.Now()
	switch {
	case g.required && now.Before(g.until):
		p.lastProbe.set(now)
		return true
	case !g.required || p.disconnected(now):
		return true
	}
	if !p.probeWanted.Swap(true) {
		p.wakeUp()
	}
	return false
}

// disconnected tells whether Redis can't be reached, or not for this service.
func (p *protocol) disconnected(now time.Time) bool {
	silent, heard := p.lastContact.since(now)
	failed, fails := p.lastFailure.since(now)
	return !heard || silent > contactTimeout || fails && failed < failureLifetime
}

// recordResult keeps whether a kind of request failed.
func (p *protocol) recordResult(kind requestKind, failed bool, now time.Time) {
	f := &p.failures[kind]
	switch {
	case !failed:
		*f = failure{}
	case !f.current(now):
		*f = failure{now, now}
	default:
		f.last = now
	}
	var last time.Time
	for _, f := range p.failures {
		if f.last.Sub(f.first) >= failureTimeout && f.last.After(last) {
			last = f.last
		}
	}
	if last.IsZero() {
		p.lastFailure.clear()
	} else {
		p.lastFailure.set(last)
	}
}

// anyFailing tells whether anything that was asked lately failed the last time.
func (p *protocol) anyFailing(now time.Time) bool {
	return slices.ContainsFunc(p.failures[:], func(f failure) bool { return f.current(now) })
}

// updateKnown takes a decision that Redis keeps.
func (p *protocol) updateKnown(s store.State, now time.Time) {
	switch {
	case s.Epoch > p.known.Epoch:
		p.known = s
	case s.Epoch < p.known.Epoch:
		p.syncAt = now // Redis has lost what it knew, and will be told
	case s.Epoch > 0 && (s.Instance != p.known.Instance || s.State != p.known.State || s.Prober != p.known.Prober):
		p.known, p.applied = s, 0 // two servers gave the same number; what this one kept counts
	}
}

// handlePublished takes a decision that was published. Before the first comparison there is no clock to
// read its times by.
func (p *protocol) handlePublished(s store.State) {
	if p.clock.known() && s.Epoch > p.known.Epoch {
		p.known = s
	}
}

// handleResponse takes the handleResponse to a request that was sent and received at the given times.
func (p *protocol) handleResponse(r *request, a response, sent, received time.Time) {
	p.recordResult(r.kind, a.err != nil, received)
	if a.err != nil {
		p.syncAt = time.Time{} // who knows what became of it
		p.completeCommand(nil, a.err)
		return
	}
	p.lastContact.set(received)
	if !a.now.IsZero() {
		p.clock.addReading(sent, received, a.now)
	}
	switch r.kind {
	case merge:
		p.syncAt = received.Add(p.jittered(p.syncInterval()))
		p.updateKnown(a.state, received)
		p.lastVote = vote{} // told again, as Redis may have lost it
	case decide:
		p.handleDecided(r, a, received)
	case acquire:
		p.handleAcquired(r, a, sent, received)
	case renew:
		if !a.kept {
			p.lease = lease{}
			return
		}
		p.lease.renewed, p.lease.wanted = sent, a.wanted
	}
}

func (p *protocol) handleDecided(r *request, a response, received time.Time) {
	p.updateKnown(a.state, received)
	switch a.verdict {
	case store.Accepted:
		if r.command {
			p.applyDecision(p.sharing(), received) // so that who gave it finds it followed here
		} else {
			p.applied = a.state.Epoch // the breaker is there already
		}
		p.completeCommand(r, nil)
	case store.Outdated:
		if a.state.Epoch <= p.known.Epoch {
			p.syncAt = time.Time{}
		}
	}
}

func (p *protocol) handleAcquired(r *request, a response, sent, received time.Time) {
	p.election.acquireAt, p.election.lastAttempt, p.election.leaseLeft = time.Time{}, received, a.busy
	if a.busy > 0 {
		p.election.failures = min(p.election.failures+1, 8)
		return
	}
	p.election.failures = 0
	p.probeWanted.Store(false)
	patience := p.jittered(leaseIdleTimeout << min(p.election.leases, 5))
	p.election.leases++
	p.lease = lease{token: r.token, since: received, renewed: sent, idleTimeout: patience}
}

// ignoresFleet tells whether the breaker follows nobody: an operator holds it, or it is off.
func (p *protocol) ignoresFleet(s *breaker.Status) bool {
	return s.Forced != nil && !s.Forced.Shared || p.breaker.Policy().Mode == breaker.Off
}

// applyDecision puts the breaker where the fleet is.
func (p *protocol) applyDecision(share Sharing, now time.Time) {
	if !share.Enabled || !p.clock.known() {
		return
	}
	status := p.breaker.Status()
	p.updatePermit(&status, share, now) // first: nobody must probe between the two
	p.setBreakerState(&status, now)
}

// setBreakerState puts the breaker into the state that the fleet has decided, if it is not there yet.
func (p *protocol) setBreakerState(status *breaker.Status, now time.Time) {
	if p.ignoresFleet(status) {
		p.applied = 0 // what has been decided holds once the breaker follows again
		return
	}
	if p.known.Epoch <= p.applied {
		return
	}
	cause := events.CauseFleet
	if c := p.known.Cause; p.known.Instance == p.instance && (c == events.CauseForced || c == events.CauseReleased) {
		cause = c // the order was given here
	}
	place := OverrideFor(p.known, p.clock.toRemote(now), cause)
	decided := p.clock.toLocal(p.known.Timestamp)
	p.breaker.SetStateIf(place, func(s breaker.Status) bool { return !p.ignoresFleet(&s) && shouldApply(&place, &s, decided) })
	p.applied = p.known.Epoch
}

// shouldApply tells whether a breaker that is in a state is to be put into place, which was decided
// at a time. What its instance has found, or its operator ordered, since then is newer.
func shouldApply(place *breaker.StateOverride, s *breaker.Status, decided time.Time) bool {
	newer := s.Since.Sub(decided) > endTolerance // otherwise it may be what the decision was made for
	switch s.State {
	case events.Open:
		newer = newer && openedByItself(s)
	case events.HalfOpen:
		newer = newer && (s.Cause == events.CauseForced || s.Cause == events.CauseReleased || s.Cause == events.CauseHoldEnded)
	default:
		newer = newer && s.Cause == events.CauseProbesSucceeded
	}
	switch {
	case place.Forced || s.Forced != nil:
		return true
	case newer:
		return false
	case place.State == events.Open && s.State == events.Open:
		return s.RetryAt.Sub(time.Now().Add(place.Duration)).Abs() > endTolerance
	}
	return s.State != place.State
}
