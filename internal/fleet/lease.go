package fleet

import (
	"cmp"
	"fmt"
	"time"

	"cbproxy/internal/breaker"
	"cbproxy/internal/events"
)

const (
	// leaseTime is how long the fleet waits for an instance that may probe and died.
	leaseTime  = 3 * time.Second
	leaseRenew = leaseTime / 3
	// leaseOffer is how often a holder with nothing to probe asks whether somebody else has.
	leaseOffer = leaseTime / 12
	// leasePatience is how long a holder waits for something to probe before it hands over, the
	// first time; then twice as long each time, and about.
	leasePatience = leaseTime / 3
	// leaseRetry is how long an instance that wants to probe waits before it asks again, the
	// first time; then twice as long each time, but no longer than the lease lasts.
	leaseRetry = leaseTime / 10
	// leaseMargin is how much earlier than Redis its holder takes a lease for over.
	leaseMargin = leaseTime / 20
	// leaseLead is how long before an opening's end its instances ask for the lease.
	leaseLead = 400 * time.Millisecond
)

// A lease is the right to probe. Its zero value is none.
type lease struct {
	token  string
	since  time.Time // when it was acquired
	asked  time.Time // when it was renewed last
	wanted bool      // by another instance
	// patience is how long its holder waits for something to probe before it hands over.
	patience time.Duration
}

// until returns when the lease is over, counted from the moment at which Redis was asked, which
// is before it began to count.
func (l *lease) until() time.Time { return l.asked.Add(leaseTime - leaseMargin) }

func (l *lease) valid(now time.Time) bool { return l.token != "" && now.Before(l.until()) }

// idle tells whether this instance has the lease, another one wants it, and nothing came here to
// probe with for a while: for longer each time, and if probes have succeeded, since two
// instances with few calls would otherwise hand it over for ever, each when a call comes to the
// other.
func (p *participant) idle(status *breaker.Status, now time.Time) bool {
	if !p.lease.wanted || status.ProbesInFlight > 0 || p.breaker.Policy().ActiveProbing {
		return false
	}
	quiet := now.Sub(p.lease.since)
	if used, ok := p.used.since(now); ok {
		quiet = min(quiet, used)
	}
	return quiet > min(p.lease.patience<<(2*min(status.ProbesSucceeded, 2)), 10*leaseTime)
}

// newToken returns a token that nobody else has had.
func (p *participant) newToken() string {
	return fmt.Sprintf("%s/%d", p.instance, p.tokens.Add(1))
}

// claimed tells whether the fleet knows this instance for the one that may probe.
func (p *participant) claimed() bool { return p.lease.token != "" && p.known.Prober == p.lease.token }

// contest says when this instance tries to become the prober.
type contest struct {
	round time.Time     // the opening's end for which at was drawn
	at    time.Time     // zero: not before somebody wants to probe here
	tried time.Time     // the last attempt
	again int           // attempts in a row that found it taken
	busy  time.Duration // how long it was at the last of these
	held  int           // leases that this instance has had
}

// contend returns when to ask for the lease; zero if there is no need. Those that have found
// the upstream still dead themselves leave the next round to others, if there are any.
func (p *participant) contend(status *breaker.Status, now time.Time) time.Time {
	c := &p.contest
	if status.RetryAt.IsZero() && now.Before(c.round) {
		*c = contest{round: now, at: now} // the opening was cut short
	}
	round := cmp.Or(status.RetryAt, c.round, now)
	if !round.Equal(c.round) {
		lead := min(leaseLead, status.RetryAt.Sub(status.Since)/2)
		share := 0.5 + 0.5*p.random()
		if p.known.Instance == p.instance && p.known.Cause == events.CauseProbeFailed {
			share /= 4
		}
		*c = contest{round: round, at: round.Add(-time.Duration(float64(lead) * share))}
		if status.RetryAt.IsZero() {
			c.at = now
		}
	}
	if c.tried.IsZero() && p.known.Prober != "" && now.Before(c.round) {
		c.at, c.tried = time.Time{}, now // somebody was faster
	}
	if c.at.IsZero() && (p.wanted.Load() || status.State == events.Closed) {
		c.at = c.tried.Add(p.jittered(min(leaseRetry<<c.again, max(c.busy, leaseRetry))))
	}
	return c.at
}

// jittered returns d, or up to a fifth more.
func (p *participant) jittered(d time.Duration) time.Duration {
	return d + time.Duration(p.random()*float64(d)/5)
}
