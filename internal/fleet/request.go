package fleet

import (
	"time"

	"cbproxy/internal/events"
	"cbproxy/internal/store"
)

// nextRequest returns the most urgent request. If its kind is noRequest, wake is when to ask again.
func (p *protocol) nextRequest(status *events.BreakerStatus, sharing Sharing, now time.Time) (r request, wake time.Time) {
	switch {
	case !sharing.Enabled:
		p.syncAt, p.applied, p.clock = time.Time{}, 0, clock{} // start from the beginning once sharing is on again
		p.completeCommand(nil, errNotShared)
		return p.releaseLease(), time.Time{}
	case !now.Before(p.syncAt):
		r.kind, r.state = merge, p.known
		if p.known.Epoch == 0 {
			r.state.Timestamp = now // a local time: the clock has no reading, and there is no decision whose time matters
		}
		return r, time.Time{}
	case p.command != nil:
		if r = p.commandRequest(now); r.kind != noRequest {
			return r, time.Time{}
		}
	}
	if r = p.decisionRequest(status, sharing, now); r.kind != noRequest {
		return r, time.Time{}
	}
	early := status.State == events.Open && status.RetryAt.Sub(now) > leaseLead
	if p.lease.token != "" && (early || p.leaseIdle(status, now) || !p.probingNeeded(status, now) || !p.isProber() && !p.lease.valid(now)) {
		p.election.acquireAt, p.election.lastAttempt = time.Time{}, now // acquire it again only if a call needs it
		return p.releaseLease(), time.Time{}
	}
	if !p.probingNeeded(status, now) {
		p.election = election{}
		p.probeWanted.Store(false)
		return request{}, p.syncAt
	}
	return p.leaseRequest(status, now)
}

// probingNeeded reports whether the fleet needs a prober and this instance may be it.
func (p *protocol) probingNeeded(status *events.BreakerStatus, now time.Time) bool {
	return p.known.State != events.Closed && !p.ignoresFleet(status) && !p.fleetForced(now)
}

// fleetForced reports whether the state is forced for the whole fleet.
func (p *protocol) fleetForced(now time.Time) bool {
	remaining, _, endless := p.known.Remaining(p.clock.toRemote(now))
	return p.known.Forced && (endless || remaining > 0)
}

// decisionRequest returns the request to decide what the breaker's state has become: by the
// results of probes, if this instance is the prober, otherwise by those of client calls.
func (p *protocol) decisionRequest(status *events.BreakerStatus, sharing Sharing, now time.Time) (r request) {
	if p.ignoresFleet(status) {
		return r
	}
	s := p.stateOf(status)
	switch {
	case p.prolongs(status, &s, now):
		s.Timestamp = p.clock.toRemote(now) // that of the response: it is newer than what made the others open
	case p.isProber():
		switch {
		case status.State == events.HalfOpen && p.known.State == events.Open:
			// The transition to half-open is no new result, so it keeps the times of the opening.
			s.Prober, s.OpenedAt, s.Timestamp = p.lease.token, p.known.OpenedAt, p.known.Timestamp
		case status.State == events.Closed:
		case openedByItself(status) && status.Since.After(p.lease.since) && !p.reported.is(status.Since, p.known.Timestamp):
		default:
			return r
		}
	case status.Forced != nil && p.known.Epoch == 0: // forced for the fleet before a restart, and lost by Redis
	case openedByItself(status) && p.known.State == events.Closed && !p.fleetForced(now):
		v := vote{status.Since, p.known.Epoch, sharing.Quorum}
		if p.lastVote == v {
			return r
		}
		p.lastVote = v
		r.decision.Quorum, r.decision.Window = sharing.Quorum, p.breaker.Policy().Window
		r.decision.Age = max(now.Sub(status.Since), 0)
	default:
		return r
	}
	r.kind, r.decision.State, r.decision.Follows = decide, s, p.known.Epoch
	p.reported = report{status.Since, s.Timestamp}
	return r
}

// prolongs reports whether a response has prolonged the fleet's opening at this instance, where it has the state s: the response asked
// for no request before a time that is later than its end.
func (p *protocol) prolongs(status *events.BreakerStatus, s *store.State, now time.Time) bool {
	return status.State == events.Open && status.Cause == events.CauseRetryAfter && p.known.State == events.Open &&
		p.known.Cause == events.CauseRetryAfter && s.Until.Sub(p.known.Until) > endTolerance && !p.fleetForced(now)
}

// stateOf returns the breaker's state with times of Redis's clock.
func (p *protocol) stateOf(status *events.BreakerStatus) store.State {
	s := StateOf(p.service, p.instance, *status)
	s.Timestamp, s.OpenedAt, s.Until = p.clock.toRemote(s.Timestamp), p.clock.toRemote(s.OpenedAt), p.clock.toRemote(s.Until)
	return s
}

// leaseRequest returns the request that acquires the lease, makes this instance the prober, or
// renews the lease.
func (p *protocol) leaseRequest(status *events.BreakerStatus, now time.Time) (r request, wake time.Time) {
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
