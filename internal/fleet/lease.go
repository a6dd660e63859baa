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
	// leaseIdleRenew is how often a holder with nothing to probe asks whether somebody else has.
	leaseIdleRenew = leaseTime / 12
	// leaseIdleTimeout is how long a holder waits for something to probe before it hands over, the
	// first time; then twice as long each time, and about.
	leaseIdleTimeout = leaseTime / 3
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
	token   string
	since   time.Time // when it was acquired
	renewed time.Time // when it was renewed last
	wanted  bool      // by another instance
	// idleTimeout is how long its holder waits for something to probe before it hands over.
	idleTimeout time.Duration
}

// until returns when the lease is over, counted from the moment at which Redis was asked, which
// is before it began to count.
func (l *lease) until() time.Time { return l.renewed.Add(leaseTime - leaseMargin) }

func (l *lease) valid(now time.Time) bool { return l.token != "" && now.Before(l.until()) }

// leaseIdle tells whether this instance has the lease, another one wants it, and nothing came here to
// probe with for a while: for longer each time, and if probes have succeeded, since two
// instances with few calls would otherwise hand it over for ever, each when a call comes to the
// other.
func (p *protocol) leaseIdle(status *breaker.Status, now time.Time) bool {
	if !p.lease.wanted || status.ProbesInFlight > 0 || p.breaker.Policy().ActiveProbing {
		return false
	}
	quiet := now.Sub(p.lease.since)
	if used, ok := p.lastProbe.since(now); ok {
		quiet = min(quiet, used)
	}
	return quiet > min(p.lease.idleTimeout<<(2*min(status.ProbesSucceeded, 2)), 10*leaseTime)
}

// newToken returns a token that nobody else has had.
func (p *protocol) newToken() string {
	return fmt.Sprintf("%s/%d", p.instance, p.tokenCount.Add(1))
}

// isProber tells whether the fleet knows this instance for the one that may probe.
func (p *protocol) isProber() bool { return p.lease.token != "" && p.known.Prober == p.lease.token }

// election says when this instance tries to become the prober.
type election struct {
	openingEnd  time.Time     // the opening's end for which at was drawn
	acquireAt   time.Time     // zero: not before somebody wants to probe here
	lastAttempt time.Time     // the last attempt
	failures    int           // attempts in a row that found it taken
	leaseLeft   time.Duration // how long it was at the last of these
	leases      int           // leases that this instance has had
}

// acquireTime returns when to ask for the lease; zero if there is no need. Those that have found
// the upstream still dead themselves leave the next round to others, if there are any.
func (p *protocol) acquireTime(status *breaker.Status, now time.Time) time.Time {
	c := &p.election
	if status.RetryAt.IsZero() && now.Before(c.openingEnd) {
		*c = election{openingEnd: now, acquireAt: now} // the opening was cut short
	}
	round := cmp.Or(status.RetryAt, c.openingEnd, now)
	if !round.Equal(c.openingEnd) {
		lead := min(leaseLead, status.RetryAt.Sub(status.Since)/2)
		share := 0.5 + 0.5*p.random()
		if p.known.Instance == p.instance && p.known.Cause == events.CauseProbeFailed {
			share /= 4
		}
		*c = election{openingEnd: round, acquireAt: round.Add(-time.Duration(float64(lead) * share))}
		if status.RetryAt.IsZero() {
			c.acquireAt = now
		}
	}
	if c.lastAttempt.IsZero() && p.known.Prober != "" && now.Before(c.openingEnd) {
		c.acquireAt, c.lastAttempt = time.Time{}, now // somebody was faster
	}
	if c.acquireAt.IsZero() && (p.probeWanted.Load() || status.State == events.Closed) {
		c.acquireAt = c.lastAttempt.Add(p.jittered(min(leaseRetry<<c.failures, max(c.leaseLeft, leaseRetry))))
	}
	return c.acquireAt
}

// jittered returns d, or up to a fifth more.
func (p *protocol) jittered(d time.Duration) time.Duration {
	return d + time.Duration(p.random()*float64(d)/5)
}
