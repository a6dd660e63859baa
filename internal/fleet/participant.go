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
	// comparePeriod is how often an instance compares what it knows of a service with Redis,
	// to repair what was missed by either.
	comparePeriod = 30 * time.Second
	// lostAfter is how long Redis may be silent before an instance goes by what it knows
	// itself.
	lostAfter = 4 * time.Second
	// failingAfter is the same for a service whose keys can't be used.
	failingAfter = 2 * time.Second
	// failureLife is how long a request that failed counts as failing when it is not asked again.
	failureLife = 10 * time.Second
	// sameEnd is how far apart two ends of one opening may be.
	sameEnd = 20 * time.Millisecond
)

// A participant is one instance's part in what the fleet does about one service. It has no
// goroutine, waits for nothing and asks nobody but the breaker: next says what to ask Redis and
// answer takes the answer, one at a time. Only turn may be called at any moment.
type participant struct {
	service, instance string
	breaker           *breaker.Breaker
	share             func() Sharing
	period            func() time.Duration // between comparisons
	heard             *moment              // when this instance last heard of Redis
	tokens            *atomic.Int64        // how many leases this instance has asked for
	poke              func()               // wakes who calls next
	random            func() float64       // in [0, 1)

	clock     clock
	known     store.State // the last decision of the fleet that is known here
	applied   uint64      // the epoch of the last decision that the breaker follows
	compareAt time.Time   // zero: at once
	told      finding     // the last own finding that Redis was told
	lease     lease
	contest   contest
	order     *order // an operator's, waiting
	failures  [len(requestKinds)]failure
	failing   moment // since when what is asked fails, all of it or some

	gate   atomic.Pointer[gate]
	wanted atomic.Bool // a call was refused because another instance probes
	used   moment      // when a call was let through as the fleet's probe
}

// A finding is one opening of this instance's own, told after a decision, where so many make a
// quorum.
type finding struct {
	since  time.Time
	epoch  uint64
	quorum int
}

// A failure is that of one kind of request: one may fail while others work, which may not be
// asked again.
type failure struct{ first, last time.Time }

func (f *failure) standing(now time.Time) bool {
	return !f.first.IsZero() && now.Sub(f.last) < failureLife
}

// A gate is what turn goes by. It is never modified.
type gate struct {
	closed bool      // the fleet's probes decide, not everybody's own
	until  time.Time // when the right to probe ends here; zero if it is elsewhere
}

func newParticipant(service, instance string, b *breaker.Breaker) *participant {
	p := &participant{
		service: service, instance: instance, breaker: b,
		share:  func() Sharing { return Sharing{Enabled: true, Quorum: 1} },
		period: func() time.Duration { return comparePeriod },
		heard:  new(moment), tokens: new(atomic.Int64), poke: func() {}, random: rand.Float64,
		known: store.State{Service: service, Instance: instance},
	}
	p.gate.Store(&gate{})
	return p
}

// turn tells whether a call may probe the upstream. Without Redis, everybody may.
func (p *participant) turn() bool {
	g := p.gate.Load()
	now := time.Now()
	switch {
	case g.closed && now.Before(g.until):
		p.used.set(now)
		return true
	case !g.closed || p.lost(now):
		return true
	}
	if !p.wanted.Swap(true) {
		p.poke()
	}
	return false
}

// lost tells whether Redis can't be reached, or not for this service.
func (p *participant) lost(now time.Time) bool {
	silent, heard := p.heard.since(now)
	failed, fails := p.failing.since(now)
	return !heard || silent > lostAfter || fails && failed < failureLife
}

// keepFailure keeps whether a kind of request failed.
func (p *participant) keepFailure(kind requestKind, failed bool, now time.Time) {
	f := &p.failures[kind]
	switch {
	case !failed:
		*f = failure{}
	case !f.standing(now):
		*f = failure{now, now}
	default:
		f.last = now
	}
	var last time.Time
	for _, f := range p.failures {
		if f.last.Sub(f.first) >= failingAfter && f.last.After(last) {
			last = f.last
		}
	}
	if last.IsZero() {
		p.failing.clear()
	} else {
		p.failing.set(last)
	}
}

// fails tells whether anything that was asked lately failed the last time.
func (p *participant) fails(now time.Time) bool {
	return slices.ContainsFunc(p.failures[:], func(f failure) bool { return f.standing(now) })
}

// learn takes a decision that Redis keeps.
func (p *participant) learn(s store.State, now time.Time) {
	switch {
	case s.Epoch > p.known.Epoch:
		p.known = s
	case s.Epoch < p.known.Epoch:
		p.compareAt = now // Redis has lost what it knew, and will be told
	case s.Epoch > 0 && (s.Instance != p.known.Instance || s.State != p.known.State || s.Prober != p.known.Prober):
		p.known, p.applied = s, 0 // two servers gave the same number; what this one kept counts
	}
}

// hear takes a decision that was published. Before the first comparison there is no clock to
// read its times by.
func (p *participant) hear(s store.State) {
	if p.clock.known() && s.Epoch > p.known.Epoch {
		p.known = s
	}
}

// answer takes the answer to a request that was sent and received at the given times.
func (p *participant) answer(r *request, a answer, sent, received time.Time) {
	p.keepFailure(r.kind, a.err != nil, received)
	if a.err != nil {
		p.compareAt = time.Time{} // who knows what became of it
		p.finishOrder(nil, a.err)
		return
	}
	p.heard.set(received)
	if !a.now.IsZero() {
		p.clock.read(sent, received, a.now)
	}
	switch r.kind {
	case merge:
		p.compareAt = received.Add(p.jittered(p.period()))
		p.learn(a.state, received)
		p.told = finding{} // told again, as Redis may have lost it
	case decide:
		p.decided(r, a, received)
	case acquire:
		p.acquired(r, a, sent, received)
	case renew:
		if !a.kept {
			p.lease = lease{}
			return
		}
		p.lease.asked, p.lease.wanted = sent, a.wanted
	}
}

func (p *participant) decided(r *request, a answer, received time.Time) {
	p.learn(a.state, received)
	switch a.verdict {
	case store.Accepted:
		if r.order {
			p.obey(p.share(), received) // so that who gave it finds it followed here
		} else {
			p.applied = a.state.Epoch // the breaker is there already
		}
		p.finishOrder(r, nil)
	case store.Outdated:
		if a.state.Epoch <= p.known.Epoch {
			p.compareAt = time.Time{}
		}
	}
}

func (p *participant) acquired(r *request, a answer, sent, received time.Time) {
	p.contest.at, p.contest.tried, p.contest.busy = time.Time{}, received, a.busy
	if a.busy > 0 {
		p.contest.again = min(p.contest.again+1, 8)
		return
	}
	p.contest.again = 0
	p.wanted.Store(false)
	patience := p.jittered(leasePatience << min(p.contest.held, 5))
	p.contest.held++
	p.lease = lease{token: r.token, since: received, asked: sent, patience: patience}
}

// deaf tells whether the breaker follows nobody: an operator holds it, or it is off.
func (p *participant) deaf(s *breaker.Status) bool {
	return s.Forced != nil && !s.Forced.Shared || p.breaker.Policy().Mode == breaker.Off
}

// obey puts the breaker where the fleet is.
func (p *participant) obey(share Sharing, now time.Time) {
	if !share.Enabled || !p.clock.known() {
		return
	}
	status := p.breaker.Status()
	p.setGate(&status, share, now) // first: nobody must probe between the two
	p.follow(&status, now)
}

// follow puts the breaker into the state that the fleet has decided, if it is not there yet.
func (p *participant) follow(status *breaker.Status, now time.Time) {
	if p.deaf(status) {
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
	p.breaker.SetStateIf(place, func(s breaker.Status) bool { return !p.deaf(&s) && wanted(&place, &s, decided) })
	p.applied = p.known.Epoch
}

// wanted tells whether a breaker that is in a state is to be put into place, which was decided
// at a time. What its instance has found, or its operator ordered, since then is newer.
func wanted(place *breaker.StateOverride, s *breaker.Status, decided time.Time) bool {
	newer := s.Since.Sub(decided) > sameEnd // otherwise it may be what the decision was made for
	switch s.State {
	case events.Open:
		newer = newer && own(s)
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
		return s.RetryAt.Sub(time.Now().Add(place.Duration)).Abs() > sameEnd
	}
	return s.State != place.State
}
