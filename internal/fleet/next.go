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
func (p *participant) next(now time.Time) (r request, wake time.Time) {
	share := p.share()
	p.obey(share, now)
	status := p.breaker.Status()
	r, wake = p.wants(&status, share, now)
	r.state.Service = p.service
	p.setGate(&status, share, now)
	return r, wake
}

func (p *participant) setGate(status *breaker.Status, share Sharing, now time.Time) {
	g := gate{closed: share.Enabled && p.probes(status, now)}
	if p.claimed() {
		g.until = p.lease.until()
	}
	old := p.gate.Load()
	if g == *old {
		return
	}
	p.gate.Store(&g)
	if old.until.IsZero() && !g.until.IsZero() {
		p.breaker.ProbeGranted()
	}
}

// wants decides what to ask, the most urgent first.
func (p *participant) wants(status *breaker.Status, share Sharing, now time.Time) (r request, wake time.Time) {
	switch {
	case !share.Enabled:
		p.compareAt, p.applied, p.clock = time.Time{}, 0, clock{} // it begins anew once it shares again
		p.finishOrder(nil, errNotShared)
		return p.giveUp(), time.Time{}
	case !now.Before(p.compareAt):
		r.kind, r.state = merge, p.known
		if p.known.Epoch == 0 {
			r.state.Timestamp = now // about: a first state has no decision that it is the time of
		}
		return r, time.Time{}
	case p.order != nil:
		if r = p.ordered(now); r.kind != nothing {
			return r, time.Time{}
		}
	}
	if r = p.verdict(status, share, now); r.kind != nothing {
		return r, time.Time{}
	}
	early := status.State == events.Open && status.RetryAt.Sub(now) > leaseLead
	if p.lease.token != "" && (early || p.idle(status, now) || !p.probes(status, now) || !p.claimed() && !p.lease.valid(now)) {
		p.contest.at, p.contest.tried = time.Time{}, now // again only if somebody wants to probe here
		return p.giveUp(), time.Time{}
	}
	if !p.probes(status, now) {
		p.contest = contest{}
		p.wanted.Store(false)
		return request{}, p.compareAt
	}
	return p.probe(status, now)
}

// probes tells whether the fleet wants the upstream probed and this instance may be asked to.
func (p *participant) probes(status *breaker.Status, now time.Time) bool {
	return p.known.State != events.Closed && !p.deaf(status) && !p.holdsAll(now)
}

// holdsAll tells whether an operator holds the whole fleet.
func (p *participant) holdsAll(now time.Time) bool {
	remaining, _, endless := p.known.Remaining(p.clock.toRemote(now))
	return p.known.Forced && (endless || remaining > 0)
}

// giveUp returns the request that gives the lease back.
func (p *participant) giveUp() (r request) {
	if p.lease.token != "" {
		r.kind, r.token = release, p.lease.token
		p.lease = lease{}
	}
	return r
}

// verdict returns the decision to ask for because of what the breaker has come to: by its
// probes, if this instance is the prober, otherwise by its clients' calls.
func (p *participant) verdict(status *breaker.Status, share Sharing, now time.Time) (r request) {
	if p.deaf(status) {
		return r
	}
	s := p.stateOf(status)
	switch {
	case p.claimed():
		switch {
		case status.State == events.HalfOpen && p.known.State == events.Open:
			s.Prober, s.OpenedAt, s.Timestamp = p.lease.token, p.known.OpenedAt, p.known.Timestamp // it finds nothing new
		case status.State == events.Closed:
		case own(status) && status.Since.After(p.lease.since):
		default:
			return r
		}
	case status.Forced != nil && p.known.Epoch == 0: // the fleet's, from before a restart, and Redis has lost it
	case own(status) && p.known.State == events.Closed && !p.holdsAll(now):
		f := finding{status.Since, p.known.Epoch, share.Quorum}
		if p.told == f {
			return r
		}
		p.told = f
		r.decision.Quorum, r.decision.Window = share.Quorum, p.breaker.Policy().Window
		r.decision.Age = max(now.Sub(status.Since), 0)
	default:
		return r
	}
	r.kind, r.decision.State, r.decision.Follows = decide, s, p.known.Epoch
	return r
}

// stateOf returns the breaker's state by Redis's clock.
func (p *participant) stateOf(status *breaker.Status) store.State {
	s := StateOf(p.service, p.instance, *status)
	s.Timestamp, s.OpenedAt, s.Until = p.clock.toRemote(s.Timestamp), p.clock.toRemote(s.OpenedAt), p.clock.toRemote(s.Until)
	return s
}

// probe sees to it that one instance probes, if need be this one.
func (p *participant) probe(status *breaker.Status, now time.Time) (r request, wake time.Time) {
	switch {
	case p.lease.token == "":
		at := p.contend(status, now)
		if at.IsZero() {
			return r, p.compareAt
		}
		if now.Before(at) {
			return r, earlier(at, p.compareAt)
		}
		r.kind, r.token = acquire, p.newToken()
	case !p.claimed():
		r.kind = decide
		r.decision.State, r.decision.Follows = p.known, p.known.Epoch
		claim := &r.decision.State
		claim.Prober, claim.Instance = p.lease.token, p.instance
		if status.State == events.Open {
			claim.Until = p.clock.toRemote(status.RetryAt)
		}
	default:
		due := p.lease.asked.Add(leaseRenew)
		if status.State == events.HalfOpen && status.ProbesInFlight == 0 {
			due = p.lease.asked.Add(leaseOffer)
		}
		if now.Before(due) {
			return r, earlier(due, p.compareAt)
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
