package fleet

import (
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
	"cbproxy/internal/store"
)

// next puts the breaker where the fleet is, and returns what to ask Redis now. With a request
// of nothing, wake is when to call it again at the latest, zero if only a change can give it
// something to do.
func (p *protocol) next(now time.Time) (r request, wake time.Time) {
	share := p.sharing()
	p.applyDecision(share, now)
	status := p.breaker.Status()
	r, wake = p.nextRequest(&status, share, now)
	r.state.Service = p.service
	p.updatePermit(&status, share, now)
	return r, wake
}

func (p *protocol) updatePermit(status *breaker.Status, share Sharing, now time.Time) {
	g := probePermit{required: share.Enabled && p.probingNeeded(status, now)}
	if p.isProber() {
		g.until = p.lease.until()
	}
	old := p.permit.Load()
	if g == *old {
		return
	}
	p.permit.Store(&g)
	if old.until.IsZero() && !g.until.IsZero() {
		p.breaker.ProbeGranted()
	}
}

// nextRequest decides what to ask, the most urgent first.
func (p *protocol) nextRequest(status *breaker.Status, share Sharing, now time.Time) (r request, wake time.Time) {
	switch {
	case !share.Enabled:
		p.syncAt, p.applied, p.clock = time.Time{}, 0, clock{} // it begins anew once it shares again
		p.completeCommand(nil, errNotShared)
		return p.releaseLease(), time.Time{}
	case !now.Before(p.syncAt):
		r.kind, r.state = merge, p.known
		if p.known.Epoch == 0 {
			r.state.Timestamp = now // about: a first state has no decision that it is the time of
		}
		return r, time.Time{}
	case p.command != nil:
		if r = p.commandRequest(now); r.kind != noRequest {
			return r, time.Time{}
		}
	}
	if r = p.decisionRequest(status, share, now); r.kind != noRequest {
		return r, time.Time{}
	}
	early := status.State == events.Open && status.RetryAt.Sub(now) > leaseLead
	if p.lease.token != "" && (early || p.leaseIdle(status, now) || !p.probingNeeded(status, now) || !p.isProber() && !p.lease.valid(now)) {
		p.election.acquireAt, p.election.lastAttempt = time.Time{}, now // again only if somebody wants to probe here
		return p.releaseLease(), time.Time{}
	}
	if !p.probingNeeded(status, now) {
		p.election = election{}
		p.probeWanted.Store(false)
		return request{}, p.syncAt
	}
	return p.leaseRequest(status, now)
}

// probingNeeded tells whether the fleet wants the upstream probed and this instance may be asked to.
func (p *protocol) probingNeeded(status *breaker.Status, now time.Time) bool {
	return p.known.State != events.Closed && !p.ignoresFleet(status) && !p.fleetForced(now)
}

// fleetForced tells whether an operator holds the whole fleet.
func (p *protocol) fleetForced(now time.Time) bool {
	remaining, _, endless := p.known.Remaining(p.clock.toRemote(now))
	return p.known.Forced && (endless || remaining > 0)
}

// releaseLease returns the request that gives the lease back.
func (p *protocol) releaseLease() (r request) {
	if p.lease.token != "" {
		r.kind, r.token = release, p.lease.token
		p.lease = lease{}
	}
	return r
}

// decisionRequest returns the decision to ask for because of what the breaker has come to: by its
// probes, if this instance is the prober, otherwise by its clients' calls.
func (p *protocol) decisionRequest(status *breaker.Status, share Sharing, now time.Time) (r request) {
	if p.ignoresFleet(status) {
		return r
	}
	s := p.stateOf(status)
	switch {
	case p.isProber():
		switch {
		case status.State == events.HalfOpen && p.known.State == events.Open:
			s.Prober, s.OpenedAt, s.Timestamp = p.lease.token, p.known.OpenedAt, p.known.Timestamp // it finds nothing new
		case status.State == events.Closed:
		case openedByItself(status) && status.Since.After(p.lease.since):
		default:
			return r
		}
	case status.Forced != nil && p.known.Epoch == 0: // the fleet's, from before a restart, and Redis has lost it
	case openedByItself(status) && p.known.State == events.Closed && !p.fleetForced(now):
		f := vote{status.Since, p.known.Epoch, share.Quorum}
		if p.lastVote == f {
			return r
		}
		p.lastVote = f
		r.decision.Quorum, r.decision.Window = share.Quorum, p.breaker.Policy().Window
		r.decision.Age = max(now.Sub(status.Since), 0)
	default:
		return r
	}
	r.kind, r.decision.State, r.decision.Follows = decide, s, p.known.Epoch
	return r
}

// stateOf returns the breaker's state by Redis's clock.
func (p *protocol) stateOf(status *breaker.Status) store.State {
	s := StateOf(p.service, p.instance, *status)
	s.Timestamp, s.OpenedAt, s.Until = p.clock.toRemote(s.Timestamp), p.clock.toRemote(s.OpenedAt), p.clock.toRemote(s.Until)
	return s
}

// leaseRequest sees to it that one instance probes, if need be this one.
func (p *protocol) leaseRequest(status *breaker.Status, now time.Time) (r request, wake time.Time) {
	switch {
	case p.lease.token == "":
		at := p.acquireTime(status, now)
		if at.IsZero() {
			return r, p.syncAt
		}
		if now.Before(at) {
			return r, earlier(at, p.syncAt)
		}
		r.kind, r.token = acquire, p.newToken()
	case !p.isProber():
		r.kind = decide
		r.decision.State, r.decision.Follows = p.known, p.known.Epoch
		claim := &r.decision.State
		claim.Prober, claim.Instance = p.lease.token, p.instance
		if status.State == events.Open {
			claim.Until = p.clock.toRemote(status.RetryAt)
		}
	default:
		due := p.lease.renewed.Add(leaseRenew)
		if status.State == events.HalfOpen && status.ProbesInFlight == 0 {
			due = p.lease.renewed.Add(leaseIdleRenew)
		}
		if now.Before(due) {
			return r, earlier(due, p.syncAt)
		}
		r.kind, r.token = renew, p.lease.token
	}
	return r, time.Time{}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
